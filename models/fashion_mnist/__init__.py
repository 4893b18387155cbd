"""A small head and a strong cloud on Fashion-MNIST: the pair that gives the accuracy figures."""
