"""The edge half: routes a sample, runs the head, answers by itself or asks the cloud. Never imports torch."""
