"""A store of copies as a pyarrow file system, which maps whole copies on this machine into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyarrow.fs import FSSpecHandler, PyFileSystem

if TYPE_CHECKING:
    import pyarrow

    from datalayer.stores.hot import CommittedView


def arrow_view(store: CommittedView) -> PyFileSystem:
    """Return the file system; it reads only."""
    return PyFileSystem(_Mapping(store))


class _Mapping(FSSpecHandler):  # type: ignore[misc]  # pyarrow ships no types
    def __init__(self, store: CommittedView) -> None:
        super().__init__(store.filesystem)
        self._store = store
        self._root = store.filesystem_path("").strip("/")

    def open_input_file(self, path: str) -> Any:
        return self._mapped(path) or super().open_input_file(path)

    def open_input_stream(self, path: str) -> Any:
        return self._mapped(path) or super().open_input_stream(path)

    def _mapped(self, path: str) -> pyarrow.NativeFile | None:
        import pyarrow

        inside = path.strip("/").removeprefix(self._root).strip("/")
        local = self._store.mappable_path(inside)
        if local is None:
            return None
        # Dropped meanwhile, a file that is open stays whole.
        try:
            mapped = pyarrow.memory_map(str(local), "r")
        except OSError:
            return None
        self._store.mapped()
        return mapped
