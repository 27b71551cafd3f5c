"""What a user would have without Shoal. Runs in `.venv-bench`, which has neither Shoal nor its dependencies."""
