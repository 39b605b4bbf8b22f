"""A process that publishes one generation, says so on its output, and may be killed at any moment."""

import sys

from datalayer import DataLayer, TaskKey
from tests.behaviour.generations import publish

if __name__ == "__main__":
    number = publish(DataLayer.from_env(), TaskKey.parse(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{number}\n")
