"""What the SDK's tests ask of a split for torch, where torch is."""

from tests.unit.sdk.fixtures import api, aws_endpoint, cloud, s3
from tests.unit.sdk.test_splits import split
from tests.unit.sdk.test_splits import test_torch_is_asked_for_only_where_it_is_needed as test_a_split_feeds_a_loader

__all__ = ["api", "aws_endpoint", "cloud", "s3", "split", "test_a_split_feeds_a_loader"]
