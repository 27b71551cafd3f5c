"""What a user would serve the same model with; each runs in an environment of its own, and imports nothing of Shoal."""
