"""``python -m benchmarks``: measures, compares, and writes the reports. ``--help`` tells more."""

from __future__ import annotations

from benchmarks.command import app

if __name__ == "__main__":
    app()
