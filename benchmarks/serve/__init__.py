"""Serving beside its peers: see `__main__`."""
