"""A process that publishes a large output, delivers it, and says how much memory that took at the most, in bytes."""

import resource
import sys

from datalayer import DataLayer, TaskKey
from datalayer.delivery import deliver
from datalayer.handoff.destinations import Destination, S3Place

CHUNK = bytes(range(256)) * (4 << 12)


def main(size: int, bucket: str) -> None:
    layer = DataLayer.from_env()
    key = TaskKey("t", "d", "large", "20130101T000000Z")
    with layer.publish(key) as attempt, attempt.output().open("large.bin") as file:
        for _ in range(size // len(CHUNK)):
            file.write(CHUNK)
    deliver(layer, layer.resolve(key), "default", [Destination("s3", S3Place(bucket, "large", "test"))])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(f"{peak}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
