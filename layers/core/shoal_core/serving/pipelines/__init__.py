"""Pipelines of models: an inference graph in YAML that is deployed and called as one model."""
