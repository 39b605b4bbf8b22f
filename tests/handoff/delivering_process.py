"""A process that delivers one committed output, to be killed in the middle."""

import sys

from datalayer import DataLayer, TaskKey
from datalayer.delivery import deliver
from datalayer.handoff.destinations import Destination, S3Place

if __name__ == "__main__":
    key, bucket, path = sys.argv[1:]
    layer = DataLayer.from_env()
    resolution = layer.resolve(TaskKey.parse(key))
    deliver(layer, resolution, "default", [Destination("s3", S3Place(bucket, path, "test"))])
