"""What a run found, to be read: at a terminal, as an HTML file, as ``docs/benchmarks.md``, and in the README."""

from __future__ import annotations

from benchmarks.report.terminal import show

__all__ = ["show"]
