"""The S3 server that the results' tests use too."""

from tests.results.fixtures import bucket, s3

__all__ = ["bucket", "s3"]
