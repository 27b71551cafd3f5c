"""From uploaded bytes to clean, split, hashed shards: plan, write, commit."""
