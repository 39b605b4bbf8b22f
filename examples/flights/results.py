"""The workflow's results: one checksum over their rows, and whether what was delivered is what was committed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from datalayer import DataLayer
from datalayer.addresses.location import Location
from datalayer.errors import VerificationError
from datalayer.stores.s3 import S3Store
from examples.flights.workflow import REPORTS_BUCKET, REPORTS_CONNECTION, RESULTS, delivery_path, task_key

if TYPE_CHECKING:
    from datalayer.config import Config


def checksum(config: Config) -> str:
    """Return the SHA-256, in hex, over the sorted rows of all results: the same whatever files they are spread over.

    Raises:
        NotPublishedError: A result was not committed.
    """
    layer = DataLayer(config)
    whole = hashlib.sha256()
    for task_id in RESULTS:
        table = layer.resolve(task_key(task_id))["default"].dataset().to_table()
        whole.update(repr(table.column_names).encode())
        for row in sorted(repr(tuple(row.values())) for row in table.to_pylist()):
            whole.update(row.encode())
    return whole.hexdigest()


def check_deliveries(config: Config) -> int:
    """Make sure that every file of the results lies at its destination, byte for byte; return how many there are.

    Raises:
        NotFoundError: One is missing.
        VerificationError: One differs.
    """
    layer = DataLayer(config)
    files = 0
    for task_id in RESULTS:
        folder = Location("s3", REPORTS_BUCKET, delivery_path(task_id))
        delivered = S3Store(folder, connection=layer.connection(REPORTS_CONNECTION))
        output = layer.resolve(task_key(task_id))["default"]
        for name in output.files:
            if delivered.get(name)[0] != output.read_bytes(name):
                raise VerificationError(f"{delivered.location(name)} is not what {output.key} committed")
            files += 1
    return files
