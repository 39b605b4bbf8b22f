"""Runs as path segments: a logical date, or a run id for a run that has none.

A dated run is its UTC logical date in ISO-8601 basic form, ``20261123T080000Z``, with microseconds only where they are not zero
(``20261123T080000.000250Z``). A run without a logical date is ``run_id-`` and its encoded run id. A run id is told from a segment by its
type, so no run id can pose as a date.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from datalayer.addresses.encoding import MAX_COMPONENT_BYTES, decode_component, encode_component
from datalayer.errors import InvalidKeyError

LATEST = "latest"
"""Where a key is asked for: the newest committed dated run. Never part of a stored address."""

_RUN_ID_PREFIX = "run_id-"
_DATED = re.compile(r"\d{8}T\d{6}(?:\.\d{6})?Z", re.ASCII)


class RunId(str):
    """A run id of the scheduler, for a run that has no logical date: ``TaskKey(..., run=RunId("manual__1"))``."""

    __slots__ = ()


def run_segment(run: str | datetime | RunId) -> str:
    """Return the path segment of a run.

    Args:
        run: A segment's own text (``"20260101T000000Z"``, ``"run_id-manual__1"``), an aware datetime, or a :class:`RunId`.

    Raises:
        InvalidKeyError: The text is no canonical segment, or the datetime has no time zone.
    """
    if isinstance(run, RunId):
        return _checked_length(_RUN_ID_PREFIX + encode_component(str(run), "run id"))
    if isinstance(run, datetime):
        return _date_segment(run)
    if not isinstance(run, str):
        raise InvalidKeyError(f"run must be a segment's text, a datetime or a RunId, not {type(run).__name__}")
    if run.startswith(_RUN_ID_PREFIX):
        decode_component(run.removeprefix(_RUN_ID_PREFIX), "run id")
        return _checked_length(run)
    if _DATED.fullmatch(run):
        try:
            parsed = _parse_date(run)
        except ValueError as error:
            raise InvalidKeyError(f"run {run!r} is not a date that exists: {error}") from error
        if _date_segment(parsed) == run:
            return run
    raise InvalidKeyError(
        f"run {run!r} is neither a UTC date like 20260101T000000Z nor a run id like run_id-manual__1. "
        f"Give a datetime for a dated run, or RunId({run!r}) for a run id"
    )


def run_date(segment: str) -> datetime | None:
    """Return a dated segment's logical date in UTC, or None for a run that has none."""
    return None if segment.startswith(_RUN_ID_PREFIX) else _parse_date(segment)


def run_from_person(text: str) -> str:
    """Return the segment a person means by a date or time in ISO form, or by a segment itself.

    ``2013-01-01``, ``2013-01-01T06:00`` and ``2013-01-01T06:00+02:00`` all do; without an offset the time is UTC.

    Raises:
        InvalidKeyError: The text is neither.
    """
    if text.startswith(_RUN_ID_PREFIX) or _DATED.fullmatch(text):
        return run_segment(text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidKeyError(
            f"run {text!r} is no date in ISO form (2013-01-01, 2013-01-01T06:00), no run_id-… segment and not 'latest'"
        ) from error
    return _date_segment(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))


def _date_segment(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise InvalidKeyError(
            f"run {moment.isoformat()} has no time zone, so it names no single moment: pass an aware datetime, e.g. with tzinfo=datetime.UTC"
        )
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidKeyError(f"run {moment.isoformat()} lies outside the years 1 to 9999 in UTC") from error
    fraction = f".{utc.microsecond:06d}" if utc.microsecond else ""
    # Not strftime: it does not pad years before 1000 on every platform.
    return f"{utc.year:04d}{utc.month:02d}{utc.day:02d}T{utc.hour:02d}{utc.minute:02d}{utc.second:02d}{fraction}Z"


def _parse_date(segment: str) -> datetime:
    fraction = int(segment[16:22]) if "." in segment else 0
    numbers = (segment[0:4], segment[4:6], segment[6:8], segment[9:11], segment[11:13], segment[13:15])
    year, month, day, hour, minute, second = (int(number) for number in numbers)
    return datetime(year, month, day, hour, minute, second, fraction, tzinfo=UTC)


def _checked_length(segment: str) -> str:
    if len(segment) > MAX_COMPONENT_BYTES:
        raise InvalidKeyError(
            f"run {segment[:60]!r}… takes {len(segment)} bytes once encoded; the limit is {MAX_COMPONENT_BYTES}"
        )
    return segment
