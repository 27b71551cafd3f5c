"""Shoal's domain: datasets, training graphs, rounds, models. Pure Python and numpy; AWS only under `aws/`."""

__version__ = "0.1.0"
