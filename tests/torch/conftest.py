"""PyTorch is an extra of hundreds of megabytes: without it, nothing here is collected (`make test-torch` brings it)."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
