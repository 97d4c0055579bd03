"""The S3 server that the results' tests use too."""

from tests.results.conftest import bucket, s3

__all__ = ["bucket", "s3"]
