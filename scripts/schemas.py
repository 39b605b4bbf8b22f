"""Writes the published JSON Schemas anew: run it after a wire form was changed."""

from __future__ import annotations

from datalayer.handoff.schemas import SCHEMA_FOLDER, schemas

for name, text in schemas().items():
    (SCHEMA_FOLDER / name).write_bytes(text)
    print(SCHEMA_FOLDER / name)
