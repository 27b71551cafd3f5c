"""Answering records of streams and queues: each one once, in order, or kept with the reason."""
