"""One task as a process: ``python -m examples.flights.job CONTEXT REPORT COMMAND…``, what an operator does on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

from datalayer.handoff.context import layer_for, read_context
from datalayer.handoff.runner import run


def main(context_file: str, report_file: str, *command: str) -> int:
    """Run a command as the job that a context describes, and return the exit code for this process."""
    context = read_context(Path(context_file))
    result = run(context, command, layer=layer_for(context), report_path=Path(report_file))
    if result.report.error:
        print(result.report.error.message, file=sys.stderr)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
