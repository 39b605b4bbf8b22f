"""``python -m spark_env.submit APPLICATION …``: a Spark application on this machine, as a task's job: with the settings it would have in a pod.

Run it under ``datalayer run``. A Python file, a jar with ``--class``, or a file of SQL.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from datalayer.errors import ConfigError, DataLayerError
from datalayer.handoff.context import JOURNAL_VARIABLE, OUT_VARIABLE
from datalayer.handoff.task import open_task
from spark_env.alluxio import reads_alluxio
from spark_env.committer import make_room
from spark_env.conf import OUTPUT_PREFIX, launch_conf
from spark_env.kubernetes import PROPERTIES, as_properties, data_conf, submit_command
from spark_env.session import class_path, task_conf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def local_conf(own: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a local Spark for the task that this process was started for.

    Raises:
        HandoffError: It was not started for one.
        ConfigError: The configuration cannot be used.
    """
    with open_task() as task:
        config = task.layer.config
        return {
            "spark.master": "local[*]",
            **launch_conf(class_path(from_alluxio=reads_alluxio(config)), local=True),
            **data_conf(config, environ),
            **task_conf(task),
            **own,
        }


def keys_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the JVM gets the keys of the task's buckets: never on a command line, nor in a file.

    Raises:
        ConfigError: Two connections have keys of their own, and Spark's environment holds one.
    """
    with open_task() as task:
        config = task.layer.config
    named = {tier.connection for tier in config.tiers.values()} | {one.connection for one in config.references}
    found = {
        (one.access_key_id, one.secret_access_key, one.session_token)
        for name, one in config.connections.items()
        if name in named and one.access_key_id
    }
    if len(found) > 1:
        raise ConfigError(
            "connections: two of them have keys of their own, and spark-submit can be given one pair: use spark_env.session(task)"
        )
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return {
        name: value for keys in found for name, value in zip(names, keys, strict=True) if value and name not in environ
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Replace this process by Spark's."""
    parser = argparse.ArgumentParser(prog="python -m spark_env.submit", description=__doc__)
    parser.add_argument("--class", dest="main_class", help="the jar's main class")
    parser.add_argument(
        "--conf", action="append", default=[], metavar="NAME=VALUE", help="a Spark setting; may be repeated"
    )
    parser.add_argument("application")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    told = parser.parse_args(argv)
    own = dict(one.split("=", 1) for one in told.conf)
    try:
        settings = local_conf(own, os.environ)
        keys = keys_of(os.environ)
    except DataLayerError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    # On a tier of objects Spark writes elsewhere, and the folder stays for whatever the application leaves in it besides.
    if any(value.startswith("file:") for name, value in settings.items() if name.startswith(OUTPUT_PREFIX)):
        make_room(Path(os.environ[OUT_VARIABLE]))
    # Beside the journal, in the work folder that only this user can read.
    properties = Path(os.environ[JOURNAL_VARIABLE]).with_name(PROPERTIES)
    properties.write_text(as_properties(settings), encoding="ascii")
    command = submit_command(told.application, told.arguments, main_class=told.main_class, properties=str(properties))
    environ = {**os.environ, **keys, "SPARK_HOME": _spark_home(), "PYSPARK_PYTHON": sys.executable}
    os.execve(command[0], command, environ)  # noqa: S606  # this process becomes Spark's


def _spark_home() -> str:
    import pyspark

    return os.environ.get("SPARK_HOME") or str(Path(pyspark.__file__).parent)


if __name__ == "__main__":
    main()
