"""Creates the resources of an expanded template in the embedded cloud: one module per service."""
