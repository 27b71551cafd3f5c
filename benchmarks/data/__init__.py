"""The data path beside its peers: `make bench-data`, or `python -m benchmarks.data`."""
