"""The S3 server that the results' tests also use."""

from tests.results.fixtures import bucket, s3

__all__ = ["bucket", "s3"]
