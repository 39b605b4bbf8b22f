"""The report that the project shows: one file with every sample, and what is written from it, so that nobody types a figure."""

from __future__ import annotations

import gzip
from pathlib import Path

from benchmarks.report.page import MAP, PICTURE, block, page, put_between
from benchmarks.report.pictures import goals_picture, map_picture
from benchmarks.results import Report, to_json

CURRENT = "benchmarks/current.json.gz"
PAGE = "docs/benchmarks.md"
README = "README.md"


def written(report: Report, readme: str) -> dict[str, str]:
    """Return the texts that are made of a report, by their paths below the checkout.

    Args:
        report: What was measured.
        readme: The README as it is.

    Raises:
        ValueError: The README has no place for the figures.
    """
    texts = {PAGE: page(report), PICTURE: goals_picture(report), README: put_between(readme, block(report))}
    drawn = map_picture(report)
    return texts if drawn is None else {**texts, MAP: drawn}


def publish(report: Report, root: Path) -> list[Path]:
    """Make a report the one that the project shows, and return the files that were written.

    Raises:
        ValueError: The README has no place for the figures.
    """
    texts = written(report, (root / README).read_text(encoding="utf-8"))
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    # Without the time of packing, so that the same figures are the same file.
    (root / CURRENT).write_bytes(gzip.compress(to_json(report), mtime=0))
    return [root / name for name in (CURRENT, *texts)]
