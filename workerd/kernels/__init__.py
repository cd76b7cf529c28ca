"""Arithmetic on NumPy arrays: pure functions, no clock, entropy, event loop or logger."""
