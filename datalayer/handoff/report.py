"""``TaskReport``: what became of a job. A JSON document, wire version 1.0, and the exit code that goes with it.

The truth about an output is its manifest; the report says how it came about, and whether running again can help.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from datalayer.commit import wire
from datalayer.errors import (
    ConfigError,
    DataLayerError,
    HandoffError,
    PermissionDeniedError,
    ResolutionError,
    StoreError,
)
from datalayer.handoff.context import Pin
from datalayer.handoff.destinations import Destination
from datalayer.stores.counting import TierReceipt

if TYPE_CHECKING:
    from pathlib import Path

MAX_SHORT = 3000
"""Bytes. The kubelet takes 4,096 from a container, and 12 KiB from all of a pod's together."""

EX_DATAERR, EX_NOINPUT, EX_SOFTWARE, EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 65, 66, 70, 74, 75, 77, 78


class ReportedError(msgspec.Struct, frozen=True):
    """Why a job did not end well."""

    type: str
    """The error's class; ``CommandFailed`` where the command itself failed, ``Terminated`` where it was told to end."""
    message: str
    retryable: bool
    """Whether running the same again can help."""


class OutputReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One committed output."""

    tier: str
    files: int
    bytes: int
    rows: int | None = None


class Delivered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One delivery of one output."""

    output: str
    destination: Destination
    location: str
    """The folder that holds the files."""
    files: int
    bytes: int
    copied_by_server: int
    """How many of the files the server copied by itself."""
    removed: int
    """How many files of an earlier delivery were removed."""


class TaskReport(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What became of a job."""

    version: str = wire.VERSION
    state: Literal["succeeded", "failed", "terminated"]
    """``succeeded``: the outputs are committed, and delivered where that is not left to others."""
    key: str
    exit_code: int
    """What the wrapper ended with."""
    command_exit_code: int | None = None
    """What the command ended with; none if it was not started."""
    attempt: int | None = None
    digest: str | None = None
    """The committed manifest's; none if nothing was committed."""
    head: str | None = None
    """Where the manifest lies."""
    error: ReportedError | None = None
    inputs: dict[str, list[Pin]] = {}
    """What was read."""
    outputs: dict[str, OutputReport] = {}
    delivered: list[Delivered] = []
    receipt: dict[str, TierReceipt] = {}
    """What was asked of each tier by the wrapper, and by the command through ``open_task()``. What else the command asked is not seen here."""
    seconds: dict[str, float] = {}
    """By step: ``inputs``, ``command``, ``commit``, ``delivery``, where there is a hot tier ``hot``, and ``total``."""
    peak_memory: int | None = None
    """Bytes: the largest process of the command."""

    def encode(self) -> bytes:
        """Return the document's bytes, indented for people."""
        document = {"version": self.version, **msgspec.to_builtins(self)}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"

    def encode_short(self) -> bytes:
        """Return the document in as few bytes as a container may leave in its termination message, without what is only for people.

        What was read goes first, then what it took, then the list of deliveries; of a message only the beginning is kept.
        """
        short = self
        left_out: tuple[dict[str, Any], ...] = ({"inputs": {}}, {"receipt": {}}, {"delivered": []}, {"outputs": {}})
        for empty in left_out:
            short = msgspec.structs.replace(short, **empty)
            if len(data := _compact(short)) <= MAX_SHORT:
                return data
        told = self.error.message if self.error else ""
        while short.error is not None and len(data) > MAX_SHORT and told:
            told = told[: len(told) * 3 // 4]
            short.error = msgspec.structs.replace(short.error, message=f"{told}…")
            data = _compact(short)
        return data

    def write(self, path: Path) -> None:
        """Write the document; whoever reads the path sees it whole or not at all.

        Raises:
            HandoffError: It cannot be written there.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self.encode())
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)  # noqa: PTH105  # a descriptor's name is text
            except BaseException:  # also an interrupt leaves no half report
                os.unlink(temporary)  # noqa: PTH108  # likewise
                raise
        except OSError as error:
            raise HandoffError(f"the report {path} cannot be written: {error.strerror}") from error


def _compact(report: TaskReport) -> bytes:
    return msgspec.json.encode({"version": report.version, **msgspec.to_builtins(report)})


def decode_report(data: bytes, what: str = "the report") -> TaskReport:
    """Return the report that JSON bytes spell. What a newer minor version added is ignored.

    Raises:
        HandoffError: The bytes are no report.
        ProtocolVersionError: It was written by a newer major version.
    """
    return wire.decode(data, TaskReport, what, HandoffError)


def describe(error: BaseException) -> ReportedError:
    """Return an error as reports have it."""
    retryable = error.retryable if isinstance(error, DataLayerError) else True
    return ReportedError(type(error).__name__, str(error) or type(error).__name__, retryable)


def exit_code_for(error: BaseException) -> int:
    """Return the exit code that says what kind of failure it was, as ``sysexits.h`` numbers them."""
    if not isinstance(error, DataLayerError):
        return EX_SOFTWARE
    if error.retryable:
        return EX_TEMPFAIL
    kinds: tuple[tuple[type[DataLayerError] | tuple[type[DataLayerError], ...], int], ...] = (
        ((ConfigError, HandoffError), EX_CONFIG),
        (ResolutionError, EX_NOINPUT),
        (PermissionDeniedError, EX_NOPERM),
        (StoreError, EX_IOERR),
    )
    return next((code for kind, code in kinds if isinstance(error, kind)), EX_DATAERR)
