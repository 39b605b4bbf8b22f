"""The commands put together, the options they share, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from datalayer.cli import care, delivering, hot, pods, publishing, reading
from datalayer.cli.printing import print_error, print_line
from datalayer.errors import ConfigError, DataLayerError

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1
TEMPORARY = 75

app = typer.Typer(
    name="datalayer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 75 failed and running it again can help. [b]run[/b] ends as the command did.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print_line(f"datalayer-tasks {version('datalayer-tasks')}")
        raise typer.Exit


@app.callback()
def _shared(
    config: Annotated[
        Path | None,
        typer.Option(
            help="The configuration file. By default $DATALAYER_CONFIG, ./datalayer.toml or ~/.config/datalayer/datalayer.toml."
        ),
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(
            help="The storage design, instead of the configured one: s3-poc, s3-direct, shared-fs or hot-cold."
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001  # its callback answers
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    r"""Task outputs, committed once and read in place.

    An ADDRESS is [b]team/dag/task@RUN[/b] as people write it (RUN is a date, run_id-…, or latest; @RUN\[3] for a mapped task),
    [b]/team/dag/task/run[/b] as it is printed, with @ATTEMPT after it to pin one, or a task:// URI. An output and a file may follow after a slash.

    [b]datalayer put aviation/flights/extract@2013-01-01 flights.csv[/b] publishes, [b]datalayer ls[/b] looks around.
    """
    # Through the environment, so that what this process starts works under the same configuration.
    if config is not None:
        if not config.is_file():
            raise ConfigError(f"--config names {str(config)!r}, which is not there")
        os.environ["DATALAYER_CONFIG"] = str(config.absolute())
    if design is not None:
        os.environ["DATALAYER_DESIGN"] = design


reading.add_to(app)
publishing.add_to(app)
care.add_to(app)
hot.add_to(app)
pods.add_to(app)
delivering.add_to(app)


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process. An error of the library, or of the machine, is one line and no traceback.

    Args:
        arguments: Those of a command line, by default this process's.
    """
    state: dict[str, bool] = {}
    try:
        app(args=arguments, obj=state)
    except DataLayerError as error:
        _fail(error, as_json=state.get("json", False))
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain about the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(error, as_json=state.get("json", False))
    sys.exit(FAILED)


def _fail(error: Exception, *, as_json: bool) -> NoReturn:
    print_error(error, as_json=as_json)
    sys.exit(TEMPORARY if isinstance(error, DataLayerError) and error.retryable else FAILED)
