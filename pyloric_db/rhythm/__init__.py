"""Spike times to bursts, rhythm features and class. NumPy only: nothing here loads JAX."""
