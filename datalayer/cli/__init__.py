"""The ``datalayer`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and end it with the exit code."""
    if sys.argv[1:] == ["pod"]:
        # Every task in a pod waits for this, and the rest of the command line takes as long to load as all that it needs.
        from datalayer.cli.pods import be_committer

        sys.exit(be_committer())
    from datalayer.cli.app import run

    run()
