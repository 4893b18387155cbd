"""A user's samples: read, checked, dealt into calibration and held-out."""
