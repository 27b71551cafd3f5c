"""The shared fixtures, where pytest finds them."""

from tests.unit.sdk.fixtures import api, aws_endpoint, cloud, s3

__all__ = ["api", "aws_endpoint", "cloud", "s3"]
