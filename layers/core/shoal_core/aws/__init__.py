"""The only place that talks to AWS: stores, catalog, events, executions, secrets, and the frame of every handler."""
