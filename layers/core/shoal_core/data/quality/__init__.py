"""Quality: expectations, drift between versions, the page for people."""
