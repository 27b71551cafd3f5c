"""What Shoal knows of datasets, runs and models, and the decisions made on it."""
