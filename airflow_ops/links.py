"""The link *Output* of a task instance in Airflow's pages.

It leads to the committed files: to their folder in the S3 console, where they lie on AWS. What lies on another S3 service or a volume has no
page that is known here; then it leads to the task instance's XComs, where the address and the place of each output stand.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import attrs
from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowRuntimeError

from datalayer.config import TierConfig
from datalayer.stores.base import Tier

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from datalayer.layer import DataLayer
    from datalayer.resolve.resolution import Resolution

_log = logging.getLogger("airflow.task.datalayer")

PLACES = "datalayer_output"
"""The XCom with the address and the place of each output."""


@attrs.define()
class TaskOutputLink(BaseOperatorLink):
    """Leads from a task instance to what it has published. Empty where it has published nothing."""

    @property
    def name(self) -> str:
        return "Output"

    @property
    def xcom_key(self) -> str:
        return "_link_datalayer_output"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  # Airflow's signature
        """Return the link that the task itself noted when it had committed; Airflow asks in the worker, when the task has ended."""
        return getattr(operator, "output_page", "")


def note_output(operator: Any, layer: DataLayer, resolution: Resolution, context: Context) -> None:
    """Keep where a task's outputs are, for the link and, in XCom, for people.

    Args:
        operator: The task.
        layer: The layer it was committed in.
        resolution: What was committed.
        context: Airflow's context of the running task.
    """
    places = {name: str(resolution[name].original().location) for name in sorted(resolution)}
    uris = {name: resolution[name].uri for name in places}
    instance: Any = context["ti"]
    value = {"key": str(resolution.key), "attempt": resolution.attempt, "uris": uris, "places": places}
    try:
        instance.xcom_push(key=PLACES, value=value)
    except AirflowRuntimeError as error:
        # Airflow's client puts ids into URLs as they are, so that a task of the DAG ".." can push nothing. Its outputs are committed all the same.
        _log.warning("where the outputs of %s lie could not be pushed to XCom: %s", resolution.key, error)
    operator.output_page = console_page(layer, resolution) or _xcoms_page(instance)


def console_page(layer: DataLayer, resolution: Resolution) -> str | None:
    """Return the page of the S3 console that shows a committed attempt; None where it does not lie on AWS."""
    name = next(iter(sorted(resolution)), None)
    if name is None:
        return None
    location = resolution[name].original().location
    tier = layer.config.tiers.get(Tier.COLD.value, TierConfig(url=""))
    connection = layer.config.connections.get(tier.connection) if tier.connection else None
    endpoint = connection.endpoint if connection else None
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    host = urlsplit(endpoint).hostname or "" if endpoint else ""
    if location.scheme != "s3" or (endpoint and not host.endswith((".amazonaws.com", ".amazonaws.com.cn"))):
        return None
    # Of several outputs the folder that holds them all.
    folder = location.path if len(resolution) == 1 else location.path.rpartition("/")[0]
    query = {"prefix": f"{folder}/"}
    if connection and connection.region:
        query = {"region": connection.region, **query}
    return f"https://console.aws.amazon.com/s3/buckets/{quote(location.authority)}?{urlencode(query)}"


def _xcoms_page(instance: Any) -> str:
    base = instance.log_url.partition("?")[0]
    return f"{base}/xcom"
