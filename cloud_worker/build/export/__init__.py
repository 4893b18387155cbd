"""The parts of a bundle as files: heads for TFLite and NumPy, programs for torch."""
