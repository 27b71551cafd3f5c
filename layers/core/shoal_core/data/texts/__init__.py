"""Texts: tokens, vocabularies, near-duplicates, planning."""
