"""Lengths in buckets, so that compiled functions and growing caches see few different sizes."""

from typing import Final

BUCKET: Final = 64
"""Tokens by which a length is rounded up."""


def bucket_length(length: int, limit: int) -> int:
    """Round `length` up to whole buckets, but not above `limit`, nor below `length`."""
    return max(length, min(-(-length // BUCKET) * BUCKET, limit))
