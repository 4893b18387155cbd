"""What every cut takes: time, bytes, quality and leakage, in one stored profile."""
