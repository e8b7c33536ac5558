"""Figures, one module each. They need matplotlib (the `plot` extra)."""
