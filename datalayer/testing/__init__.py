"""What proves that a store keeps its contract: a test suite, races, and faults on demand. The suite needs pytest.

::

    from datalayer.testing import CompareAndPutTests, ConcurrentWriterTests, StoreTests

    class TestMyStore(StoreTests, CompareAndPutTests, ConcurrentWriterTests):
        @pytest.fixture
        def store(self):
            return MyStore(...)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datalayer.testing.capability_tests import (
        CompareAndPutTests,
        ConcurrentWriterTests,
        ExclusivePutOnlyTests,
        MountedStoreTests,
    )
    from datalayer.testing.faults import Fault, FaultyStore, stale_handle
    from datalayer.testing.races import Races, run_races
    from datalayer.testing.store_tests import StoreTests

_HOMES = {
    "CompareAndPutTests": "datalayer.testing.capability_tests",
    "ConcurrentWriterTests": "datalayer.testing.capability_tests",
    "ExclusivePutOnlyTests": "datalayer.testing.capability_tests",
    "Fault": "datalayer.testing.faults",
    "FaultyStore": "datalayer.testing.faults",
    "MountedStoreTests": "datalayer.testing.capability_tests",
    "Races": "datalayer.testing.races",
    "StoreTests": "datalayer.testing.store_tests",
    "run_races": "datalayer.testing.races",
    "stale_handle": "datalayer.testing.faults",
}

__all__ = [
    "CompareAndPutTests",
    "ConcurrentWriterTests",
    "ExclusivePutOnlyTests",
    "Fault",
    "FaultyStore",
    "MountedStoreTests",
    "Races",
    "StoreTests",
    "run_races",
    "stale_handle",
]


def __getattr__(name: str) -> object:
    # pytest is no dependency of this library: races and faults work without it.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'datalayer.testing' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
