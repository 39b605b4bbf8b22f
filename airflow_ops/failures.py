"""Errors of this library as Airflow takes them: what another try cannot help fails the task at once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from datalayer.errors import DataLayerError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def failing_at_once() -> Iterator[None]:
    """Turn errors that another try cannot help into ``AirflowFailException``. The others pass, and Airflow tries again where it may.

    Raises:
        AirflowFailException: With the message and the cause of such an error.
    """
    from airflow.sdk.exceptions import AirflowFailException

    try:
        yield
    except DataLayerError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
