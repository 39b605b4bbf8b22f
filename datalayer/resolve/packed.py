"""Reading files of packs: ranges that hold many of them, side by side, each file verified."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from datalayer.errors import DataLayerError, NotFoundError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from datalayer.commit.manifest import Entry
    from datalayer.resolve.output import ResolvedOutput

_Found = TypeVar("_Found")
_Wanted: TypeAlias = "tuple[str, Entry | DataLayerError]"
"""A name, and the file of that name or why there is none."""

SPAN_BYTES = 4 << 20
"""A range that is read at once: long enough that the wait for its first byte is the smaller part, and short enough that several are in flight."""

_GAP_BYTES = 64 << 10
"""Bytes that nobody asked for are read with a range, up to here: less than another request takes."""

_WINDOW_BYTES = 32 << 20
_PARALLEL = 16


class Span(NamedTuple):
    """Files that are read by one request."""

    entries: list[Entry]
    start: int
    end: int


def spans(entries: Iterable[Entry]) -> list[Span]:
    """Return the ranges that hold some files. A file that lies in no pack is a span of its own."""
    found: list[Span] = []
    for entry in sorted(entries, key=lambda one: (one.object or "", one.offset)):
        last = found[-1] if found else None
        end = entry.offset + entry.length
        if (
            last is not None
            and entry.object is not None
            and last.entries[0].object == entry.object
            and entry.offset <= last.end + _GAP_BYTES
            and end - last.start <= SPAN_BYTES
        ):
            last.entries.append(entry)
            found[-1] = last._replace(end=max(last.end, end))
        else:
            found.append(Span([entry], entry.offset, end))
    return found


def read_packed(output: ResolvedOutput, names: Iterable[str], parallel: int) -> Iterator[tuple[str, bytes]]:
    """Yield files of a packed output with their names, verified, in the order of the names; some 64 MiB of them are in memory.

    Args:
        output: The output.
        names: Which files.
        parallel: How many ranges are read at once, at most.

    Raises:
        ValueError: ``parallel`` is less than one.
        NotFoundError: At that file's turn; so is the other.
        VerificationError: As for ``stream``.
    """
    if parallel < 1:
        raise ValueError(f"parallel={parallel}: at least one has to run at a time")
    wanted = ((name, _or_error(partial(output.entry, name))) for name in names)
    return _read_windows(output, wanted, min(parallel, _PARALLEL))


def read_span(output: ResolvedOutput, span: Span) -> dict[str, bytes | DataLayerError]:
    """Return a span's files by name, verified. What is wrong with one stands in its place.

    Raises:
        StoreError: The store failed.
    """
    first = span.entries[0]
    if first.object is None:
        return {first.name: _or_error(lambda: output.read_bytes(first.name))}
    if span.start == span.end:
        data = b""
    else:
        try:
            data = output.store.get_range(output.object_path(first), span.start, span.end - span.start)
        except (NotFoundError, VerificationError) as error:
            return dict.fromkeys((entry.name for entry in span.entries), error)
    view = memoryview(data)
    found: dict[str, bytes | DataLayerError] = {}
    for entry in span.entries:
        at = entry.offset - span.start
        part = bytes(view[at : at + entry.length])
        found[entry.name] = _or_error(partial(output.checked, entry, part))
    return found


def _or_error(find: Callable[[], _Found]) -> _Found | DataLayerError:
    try:
        return find()
    except (NotFoundError, VerificationError) as error:
        return error


def _read_windows(output: ResolvedOutput, wanted: Iterable[_Wanted], parallel: int) -> Iterator[tuple[str, bytes]]:
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="datalayer-bulk")

    def begun(window: list[_Wanted]) -> deque[tuple[str, Future[dict[str, bytes | DataLayerError]]]]:
        futures: dict[str, Future[dict[str, bytes | DataLayerError]]] = {}
        for span in spans(entry for _, entry in window if not isinstance(entry, DataLayerError)):
            future = pool.submit(read_span, output, span)
            futures |= dict.fromkeys((entry.name for entry in span.entries), future)
        for name, entry in window:
            if isinstance(entry, DataLayerError):
                futures[name] = Future()
                futures[name].set_result({name: entry})
        return deque((name, futures[name]) for name, _ in window)

    try:
        windows = _windows(wanted)
        ahead = deque(begun(window) for window in (next(windows, []), next(windows, [])))
        while ahead:
            current = ahead.popleft()
            while current:
                name, future = current.popleft()
                data = future.result()[name]
                if isinstance(data, Exception):
                    raise data
                yield name, data
            del current
            ahead.extend(begun(window) for window in (next(windows, None),) if window)
    finally:
        # Also when the caller stops early: what runs ends by itself, what waits is dropped.
        pool.shutdown(wait=False, cancel_futures=True)


def _windows(wanted: Iterable[_Wanted]) -> Iterator[list[_Wanted]]:
    window: list[_Wanted] = []
    size = 0
    for name, entry in wanted:
        length = 0 if isinstance(entry, DataLayerError) else entry.length
        if window and size + length > _WINDOW_BYTES:
            yield window
            window, size = [], 0
        window.append((name, entry))
        size += length
    if window:
        yield window
