"""Sequences: windows over the rows of a table."""
