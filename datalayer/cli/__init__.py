"""The ``datalayer`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process, and end it with the exit code."""
    from datalayer.cli.app import run

    run()
