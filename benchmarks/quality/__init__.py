"""How good models are that Shoal's defaults train, on real data, beside references: `make bench-quality`."""
