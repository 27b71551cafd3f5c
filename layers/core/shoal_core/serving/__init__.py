"""Answering predictions with a registered model."""
