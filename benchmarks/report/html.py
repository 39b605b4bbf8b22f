"""A report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks.goals import seconds_for
from benchmarks.report import words
from benchmarks.report.how import FAIRNESS, METHOD, facts, origins
from benchmarks.report.pictures import COLOURS, goals_picture, plot_picture, ways_picture
from benchmarks.report.summary import cautions, others, rows, tally
from benchmarks.results import Report

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


def html(report: Report) -> str:
    """Return the file's text."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {
        "words": words,
        "ways_picture": lambda result: ways_picture(result) if any(one.samples for one in result.timings) else "",
        "plot_picture": plot_picture,
        "meant": lambda result: seconds_for(result.name, result.row, report.scale) if report.budget else None,
        "rounds": lambda result: max((len(one.samples) for one in result.timings), default=0),
    }
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        rows=rows(report),
        others=others(report),
        tally=tally(report),
        cautions=list(cautions(report)),
        colours=COLOURS,
        goals=goals_picture(report),
        facts=list(facts(report)),
        origins=list(origins(report)),
        rules=list(itertools.chain(METHOD, FAIRNESS)),
    )
