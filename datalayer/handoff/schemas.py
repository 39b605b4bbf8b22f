"""The published JSON Schemas of the wire forms, made from the forms themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from datalayer.commit.manifest import Manifest
from datalayer.handoff.context import TaskContext
from datalayer.handoff.report import TaskReport

SCHEMA_FOLDER = Path(__file__).parent / "schema"
"""Where they are published: ``<name>-1.0.json``."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FORMS: dict[str, type] = {"task-context": TaskContext, "task-report": TaskReport, "manifest": Manifest}


def schemas() -> dict[str, bytes]:
    """Return every schema's text by its file name."""
    return {f"{name}-1.0.json": _schema(name, form) for name, form in _FORMS.items()}


def _schema(name: str, form: type) -> bytes:
    document: dict[str, Any] = msgspec.json.schema(form)
    shape = document["$defs"][form.__name__]
    # A default in Python, so that nobody has to spell it there; in a document it always stands.
    shape["properties"]["version"] = {"type": "string", "pattern": r"^1\.(0|[1-9][0-9]*)$"}
    shape["required"] = ["version", *(key for key in shape["required"] if key != "version")]
    whole = {"$schema": _DIALECT, "title": f"datalayer {name} 1.0", **document}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"
