"""Many ranges of an fsspec file system of ours, read side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_READERS = 16


def read_ranges(cat_file: Callable[..., bytes], paths: Any, starts: Any, ends: Any, on_error: str) -> list[Any]:
    """Return what fsspec's ``cat_ranges`` returns: the bytes of each range, in order, or the error in its place.

    Args:
        cat_file: Reads one path from a start to an end.
        paths: The paths.
        starts: First bytes, one for each path or one for all.
        ends: Bytes after the last, likewise.
        on_error: ``return`` puts an error in the range's place, anything else raises it.
    """
    starts = starts if isinstance(starts, list) else [starts] * len(paths)
    ends = ends if isinstance(ends, list) else [ends] * len(paths)

    def read(wanted: tuple[str, int | None, int | None]) -> Any:
        try:
            return cat_file(*wanted)
        except Exception as error:  # fsspec's on_error="return" means every error
            if on_error == "return":
                return error
            raise

    with ThreadPoolExecutor(_READERS, "datalayer-read") as pool:
        return list(pool.map(read, zip(paths, starts, ends, strict=True)))
