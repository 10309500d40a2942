"""Experiments that come with the library; `--config=NAME` finds them wherever it is installed."""
