"""The launcher ``process``: a job as a process of this worker, with the same context, commit and report as in a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from airflow_ops import ending
from datalayer.errors import ConfigError, DataLayerError
from datalayer.handoff.runner import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ops.enriching import Prepared
    from airflow_ops.settings import Settings
    from datalayer.handoff.report import TaskReport


def run_process(operator: Any, task: Prepared, found: Settings) -> TaskReport:
    """Run an operator's command and return the report.

    Raises:
        AirflowFailException: There is no command, or another try cannot help.
        AirflowException: The job did not end well.
    """
    try:
        command = operator.process_command(found)
        environment = variables(operator.env_vars)
        if found.config_file:
            # The keys that the context leaves out are there.
            environment = {"DATALAYER_CONFIG": found.config_file, **environment}
    except DataLayerError as error:
        raise ending.as_airflow(error) from error
    operator.log.info("Running as a process of this worker: %s", " ".join(command))
    result = run(operator.process_context(task.context), command, layer=task.layer, environment=environment)
    if result.report.state != "succeeded" and result.report.digest is None:
        raise ending.failure(task, result.report)
    if result.report.state != "succeeded":
        told = result.report.error.message if result.report.error else "the delivery failed"
        raise AirflowException(told)
    return result.report


def variables(given: Any) -> dict[str, str]:
    """Return ``env_vars=`` of an operator as plain variables.

    Raises:
        ConfigError: One takes its value from the pod, which is not there.
    """
    if isinstance(given, dict):
        return {str(name): str(value) for name, value in given.items()}
    found: dict[str, str] = {}
    entries: Iterable[Any] = given or ()
    for one in entries:
        if one.value is None and one.value_from is not None:
            raise ConfigError(
                f"env_vars: {one.name} takes its value from the pod, and the launcher process makes none: give it a value"
            )
        found[one.name] = one.value or ""
    return found
