"""Batch jobs: many records through one version of a model, in pieces, in their order and format."""
