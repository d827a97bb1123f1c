"""Trained networks as integers, and as C99 for microcontrollers."""
