"""Files of an output while they are written: they count only once they are closed, and a failed ``with`` block drops them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from datalayer.commit.packs import PackedWriter
from datalayer.stores.checksum import Crc32c

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from datalayer.stores.base import ObjectInfo, StoreWriter

# Small writes are gathered, so that neither the store nor the checksum is called for every line.
_BUFFER_BYTES = 1 << 20


class OutputFile(io.BufferedIOBase):
    """A binary file of an output. ``close()`` makes it part of the attempt, ``discard()`` drops it."""

    def __init__(
        self, writer: StoreWriter, name: str, finished: Callable[[OutputFile, ObjectInfo | None], None]
    ) -> None:
        super().__init__()
        self._writer = writer
        self._finished = finished
        self._buffer = bytearray()
        self._position = 0
        self._ended = False
        self.name = name
        self.crc = Crc32c()

    @property
    def packed(self) -> bool:
        """Whether it was closed as a part of a pack, which is still being written."""
        return isinstance(self._writer, PackedWriter) and self._writer.packed

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Buffer, /) -> int:
        if self._ended:
            raise ValueError(f"file {self.name!r} is closed")
        if isinstance(data, str):
            raise TypeError(f"file {self.name!r} takes bytes, not text: open it with mode 'w' for text")
        view = memoryview(data).cast("B")
        if len(view) >= _BUFFER_BYTES:
            self._drain()
            self._pass(bytes(view))
        else:
            self._buffer += view
            if len(self._buffer) >= _BUFFER_BYTES:
                self._drain()
        self._position += len(view)
        return len(view)

    def close(self) -> None:
        if self._ended:
            return
        try:
            self._drain()
            info = self._writer.close()
        except BaseException:  # also an interrupt leaves nothing behind
            self.discard()
            raise
        self._ended = True
        super().close()
        self._finished(self, info)

    def discard(self) -> None:
        """Drop what was written; the file does not become part of the attempt."""
        if self._ended:
            return
        self._ended = True
        self._buffer.clear()
        super().close()
        try:
            self._writer.discard()
        finally:
            self._finished(self, None)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        # IOBase would close, and so commit half a file, when the object is collected.
        pass

    def _drain(self) -> None:
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        self._writer.write(data)
        self.crc.update(data)


class TextOutputFile(io.TextIOWrapper):
    """An :class:`OutputFile` for UTF-8 text, lines as they are written."""

    def __init__(self, file: OutputFile) -> None:
        self._file = file
        super().__init__(file, encoding="utf-8", newline="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.discard()

    def __del__(self) -> None:
        pass
