"""Perceiver, Perceiver IO and Perceiver AR in JAX/Flax."""

__version__ = "0.1.0"
