"""Codec tables fitted to calibration samples, and the operating points made of them."""
