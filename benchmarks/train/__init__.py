"""Training beside PyTorch: the same networks, data, batch and threads."""
