"""Kinesis' records, and the pollers that bring records and messages to functions as event source mappings do."""
