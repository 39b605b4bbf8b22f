"""``python -m examples.flights``: the flights of 2013 through one Airflow DAG, under four storage designs, and a table that compares them.

No cluster and no running Airflow is needed: an Airflow of its own runs the DAG with ``dag.test()``, and its tasks are processes.

The copies of ``hot-cold`` lie in a folder of this machine, or with ``--hot alluxio`` in a real Alluxio that is started for it.

Ends with 0 if all designs gave the same result, with 1 if not or if something failed, and with 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from datalayer.config import HotConfig
from datalayer.errors import ConfigError, DataLayerError
from examples.flights import programs
from examples.flights.configurations import DESIGNS, as_toml, configuration
from examples.flights.dag_process import DagProcess
from examples.flights.report import next_steps, table
from examples.flights.running import DesignResult, datalayer_program, run_design
from examples.flights.server import S3Server
from examples.flights.workflow import REPORTS_BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

KEEP = Path("demo-data")
# Its presence says that a folder was made by this demo, and may be emptied by it.
SETTINGS = "datalayer.toml"
VOLUME = "volume"


def main() -> int:
    """Run the demo and return its exit code."""
    options = _options()
    # What is shown goes to standard error where standard output is for a program.
    console = Console(stderr=options.json, highlight=False)
    signal.signal(signal.SIGTERM, _end)
    try:
        results = _run(options.designs or list(DESIGNS), options.keep, options.hot, console)
    except KeyboardInterrupt:
        console.print("Stopped; the S3 server is gone.")
        return 130
    except DataLayerError as error:
        console.print(f"[red]The demo failed:[/] {escape(str(error))}", soft_wrap=True)
        return 1
    equal = len({result.checksum for result in results}) == 1
    if options.json:
        print(json.dumps({"equal": equal, "designs": [result._asdict() for result in results]}, indent=2))
    console.print(table(results))
    if options.hot == "alluxio" and any(result.design == "hot-cold" for result in results):
        console.print(
            "The copies of hot-cold were Alluxio's. It fetches by blocks of 64 MB, and more when it reads ahead of a range: what it saves "
            'stands under "MB again".',
            soft_wrap=True,
        )
    if not equal:
        console.print("[red]The results differ: that is a fault of this project.[/]")
        return 1
    if len(results) > 1:
        console.print(
            "The results are equal, row for row; each was also delivered to a bucket, and is there byte for byte."
        )
    _say_what_next(results, options.keep, console)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.flights", description="Compare storage designs on real data."
    )
    parser.add_argument(
        "--design", action="append", choices=DESIGNS, dest="designs", help="only this one; may be given again"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=KEEP,
        metavar="DIR",
        help=f"where the volume of shared-fs lies and stays (default: {KEEP})",
    )
    parser.add_argument(
        "--hot",
        choices=("folder", "alluxio"),
        default="folder",
        help="what holds the copies of hot-cold (default: a cache folder; alluxio fetches 310 MB the first time)",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on standard output")
    return parser.parse_args()


def _run(designs: list[str], keep: Path, hot: str, console: Console) -> list[DesignResult]:
    programs.require("java", "go")
    with console.status("Getting ready: the Go program, Spark's jars, the S3 server, Airflow") as status:
        by_airport = programs.by_airport()
        _fetch_jars()
        volume = _fresh_folder(keep) / VOLUME
        with (
            tempfile.TemporaryDirectory(prefix="datalayer-demo-") as temp,
            S3Server() as server,
            DagProcess(Path(temp), by_airport) as airflow,
        ):
            server.make_bucket(REPORTS_BUCKET)
            results = []
            for design in dict.fromkeys(designs):
                if design == "shared-fs":
                    volume.mkdir()
                else:
                    server.make_bucket(design)
                with _copies(design, hot, server, Path(temp, "copies"), status) as copies:
                    config = configuration(design, server.endpoint, volume, copies)
                    results.append(run_design(config, server, airflow, _Told(console, status, design)))
            return results


@contextlib.contextmanager
def _copies(design: str, hot: str, server: S3Server, folder: Path, status: Status) -> Iterator[HotConfig | None]:
    """What holds the copies while the block runs; nothing under a design that has none."""
    if design != "hot-cold":
        yield None
    elif hot == "folder":
        folder.mkdir()
        yield HotConfig(url=str(folder))
    else:
        from examples.flights.alluxio import running_alluxio

        status.update("Starting Alluxio: master, worker, proxy")
        with running_alluxio(server.endpoint, design) as config:
            yield config


class _Told:
    """Shows which task runs, what its operator says, and a line for each that has ended."""

    def __init__(self, console: Console, status: Status, design: str) -> None:
        self._console = console
        self._status = status
        self._design = design

    def __call__(self, task_id: str, *, words: str | None = None, seconds: float | None = None) -> None:
        if words is not None:
            # What was read from where, what was committed, where it was delivered. The rest is in Airflow's log.
            if words.startswith(("Input ", "Committed ", "Delivered ")):
                self._console.print(f"{'':10} [dim]{escape(words)}[/]", soft_wrap=True)
        elif seconds is None:
            self._status.update(f"{self._design}: {task_id}")
        else:
            self._console.print(f"{self._design:10} {task_id:17} [green]committed[/] in {seconds:4.1f} s")


def _fetch_jars() -> None:
    from spark_env.jars import jars_dir

    jars_dir()


def _fresh_folder(folder: Path) -> Path:
    """Return a folder without the volume of an earlier demo, ready for a new one.

    Raises:
        ConfigError: The folder is somebody else's.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / SETTINGS).exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds something that is not this demo's: name another folder with --keep")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / VOLUME, ignore_errors=True)
    alone = configuration("shared-fs", "", folder / VOLUME)
    (folder / SETTINGS).write_text(as_toml(type(alone)(design=alone.design, tiers=alone.tiers)))
    return folder


def _say_what_next(results: list[DesignResult], keep: Path, console: Console) -> None:
    if all(result.design != "shared-fs" for result in results):
        return
    console.print(
        f"\nThe S3 server is gone. The volume of shared-fs stays in {keep / VOLUME}. Try next:", soft_wrap=True
    )
    program = datalayer_program()
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    for command in next_steps(keep / SETTINGS, program):
        console.print(f"  {escape(command)}", soft_wrap=True)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
