"""Alluxio as the tier of copies: bytes by its S3 proxy, verbs by its REST interface, ``alluxio://`` for Spark, and FUSE where it is mounted."""

from datalayer.stores.alluxio.store import AlluxioStore

__all__ = ["AlluxioStore"]
