"""Measurements of splitbus, and the emulated links that they run over."""
