"""EfficientNet-Lite0 with its ImageNet weights, cut at any block: the reference at photo size."""
