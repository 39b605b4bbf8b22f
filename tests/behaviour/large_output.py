"""A process that publishes a large output, delivers it, and says how much memory that took at the most, in bytes."""

import sys
from pathlib import Path

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
    # Not ru_maxrss, which a process inherits: it would be that of the test run which started this.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    sys.stdout.write(f"{peak}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
