"""``TaskFileSystem``: the ``task://`` protocol."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import msgspec
from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate, stringify_path

from datalayer.addresses.runs import LATEST
from datalayer.errors import InvalidKeyError, NotFoundError, NotPublishedError, NotSupportedError, VerificationError
from datalayer.stores.view_ranges import read_ranges
from datalayer.taskfs import tree
from datalayer.taskfs.paths import TaskPath, parse_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datalayer.layer import DataLayer
    from datalayer.resolve.output import ResolvedOutput
    from datalayer.resolve.resolution import Resolution

_READERS = 16
_MAGIC = re.compile(r"[*?\[]")
_ABSENT = (FileNotFoundError, NotPublishedError, InvalidKeyError)

Info = dict[str, Any]

LAYERS = "datalayer.layers"
"""Entry points that return the layer of a program this process belongs to, or None where it does not."""


class TaskFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Committed task outputs under ``task://team/dag_id/task_id/run[/map_index-N][@attempt]/output/file``, read-only.

    Nothing uncommitted is seen, and nothing is cached that can change: a path without ``@attempt`` is resolved anew by every call, once. What
    a listing returns lies below the path that was asked and is pinned, so that opening it later reads the same attempt; an open file
    stays on the attempt it was opened on.

    Args:
        layer: The layer to read through. By default the one of the program that this process belongs to, where it says so through an entry point
            of the group ``datalayer.layers`` (an Airflow worker does), else ``DataLayer.from_env()``; made at the first use.
        config: Values that win over the environment's, for ``storage_options={"config": {...}}``.
        **options: fsspec's own.
    """

    protocol = "task"
    root_marker = ""

    def __init__(self, layer: DataLayer | None = None, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._given = layer
        self._config = config
        self._opening = threading.Lock()

    @property
    def layer(self) -> DataLayer:
        """The layer that is read through.

        Raises:
            ConfigError: None was given, and the environment configures none.
        """
        with self._opening:
            if self._given is None:
                self._given = (_layer_of_host() if self._config is None else None) or _layer_of_environment(
                    self._config
                )
            return self._given

    def __reduce__(self) -> tuple[Any, ...]:
        # A layer holds connections; on the other side one is made from its configuration.
        config = self._config if self._given is None else msgspec.to_builtins(self._given.config)
        return _unpickled, (config,)

    # Looking ------------------------------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> Info:
        """Return ``size``, ``type``, and within an attempt ``attempt`` and a file's ``checksum``. ``name`` is pinned.

        Raises:
            NotPublishedError: Nothing is committed there.
            NotFoundError: The output has no such file.
            InvalidKeyError: The path is no address.
        """
        asked = self._parse(path)
        if asked.run is None:
            if asked.ids and not self._above(asked):
                raise self._nothing(asked)
            return tree.folder(asked.text)
        try:
            resolution = self._resolve(asked)
        except NotPublishedError:
            if self._mapped(asked):
                return tree.folder(asked.text)
            raise
        return tree.info(asked, resolution)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return one level: teams, DAGs, tasks, committed runs, outputs, files. Raises as :meth:`info` does."""
        asked = self._parse(path)
        if asked.run is None:
            found = self._above(asked)
            if asked.ids and not found:
                raise self._nothing(asked)
            entries = (
                self._runs(asked, found)
                if len(asked.ids) == 3
                else [tree.folder(f"{asked.text}/{name}".lstrip("/")) for name in found]
            )
        else:
            entries = self._mapped(asked)
            try:
                entries = tree.children(asked, self._resolve(asked)) + entries
            except NotPublishedError:
                if not entries:
                    raise
        return entries if detail else [entry["name"] for entry in entries]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
    ) -> Any:
        """Return every file below a path, by name and sorted; nothing where nothing is committed.

        Names begin as the path does, with or without ``task://``: pyarrow refuses what does not lie below the very text it asked for.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        asked = self._parse(path)
        if not asked.rest and (asked.run is None or asked.attempt is None):
            found = super().find(asked.text, maxdepth, withdirs, detail=True)
        else:
            try:
                found = tree.below(asked, self._resolve(asked), maxdepth, withdirs=withdirs)
            except _ABSENT:
                found = {}
        start = "task://" if stringify_path(path).startswith("task://") else ""
        names = {f"{start}{name}": found[name] for name in sorted(found)}
        return names if detail else list(names)

    def walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **options: Any
    ) -> Iterator[Any]:
        """As fsspec's; but by default only what is absent is passed over, so that a store's failure is no short listing."""
        if on_error != "omit":
            yield from super().walk(path, maxdepth, topdown, on_error, **options)
            return
        try:
            yield from super().walk(path, maxdepth, topdown, "raise", **options)
        except _ABSENT:
            return

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """Return the names that match a pattern, pinned. ``*`` stands for a run with or without its attempt.

        An unpinned run is resolved once for the whole pattern.
        """
        detail = options.pop("detail", False)
        found: dict[str, Info] = {}
        pattern = self._strip_protocol(path)
        for pinned in self._expand(pattern.split("/") if pattern else []):
            if _MAGIC.search(pinned):
                found |= super().glob(pinned, maxdepth=maxdepth, detail=True, **options)
            else:
                try:
                    info = self.info(pinned)
                except _ABSENT:
                    continue
                found[info["name"]] = info
        return dict(sorted(found.items())) if detail else sorted(found)

    def exists(self, path: str, **_: Any) -> bool:
        """Whether something committed is there. A store that cannot be asked raises."""
        return self._type(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether a folder is there. A store that cannot be asked raises."""
        return self._type(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether a file is there. A store that cannot be asked raises."""
        return self._type(path) == "file"

    def modified(self, path: str) -> datetime:
        """Return when the attempt that a path names was committed, by the committer's clock."""
        manifest = self._resolve(self._parse(path)).manifest
        try:
            return datetime.fromisoformat(manifest.committed)
        except ValueError as error:
            raise VerificationError(
                f"the manifest of {manifest.key} has {manifest.committed[:40]!r} for the time of its commit, which is none",
                key=manifest.key,
                attempt=manifest.attempt,
            ) from error

    created = modified

    # Reading ------------------------------------------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes from ``start`` up to ``end``; either may count from the end. A whole file is verified."""
        output, name = self._output(self._parse(path))
        if start is None and end is None:
            return output.read_bytes(name)
        entry = output.entry(name)
        first, last, _step = slice(start, end).indices(entry.length)
        if last <= first:
            return b""
        return output.read_range(name, first, last)

    def cat_ranges(
        self,
        paths: Any,
        starts: Any,
        ends: Any,
        max_gap: Any = None,  # noqa: ARG002  # fsspec's
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Return many ranges, read side by side."""
        return read_ranges(self.cat_file, paths, starts, ends, on_error)

    def get(self, rpath: Any, lpath: Any, *args: Any, **options: Any) -> Any:
        """As fsspec's. A folder is downloaded from one attempt."""
        return super().get(self._pin(rpath) if isinstance(rpath, str) else rpath, lpath, *args, **options)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        if mode != "rb":
            self._refuse(path)
        output, name = self._output(self._parse(path))
        return output.open(name)

    # Writing ------------------------------------------------------------------------------------------------------------------------

    def _refuse(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        asked = f"task://{self._strip_protocol(path if isinstance(path, str) else '')}"
        raise NotSupportedError(
            f"{asked} cannot be written, made, moved or removed through this file system: "
            "write through layer.publish(key), which makes an output visible whole or not at all",
            location=asked,
        )

    def _refuse_into(self, _source: Any, target: Any, *_: Any, **__: Any) -> NoReturn:
        self._refuse(target)

    pipe = pipe_file = rm = rm_file = _rm = rmdir = delete = mkdir = mkdirs = makedirs = touch = write_text = (
        write_bytes
    ) = _refuse
    put = put_file = upload = cp = copy = cp_file = mv = move = rename = _refuse_into

    # Within -------------------------------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return stringify_path(path).removeprefix("task:").removeprefix(":").strip("/")

    def _parse(self, path: str) -> TaskPath:
        return parse_path(self._strip_protocol(path))

    def _resolve(self, asked: TaskPath) -> Resolution:
        """Resolve the task that a path lies in: one request, or none for a pinned path that was resolved before."""
        if asked.run == LATEST:
            team, dag_id, task_id = asked.ids
            return self.layer.latest(team, dag_id, task_id, asked.map_index)
        return self.layer.resolve(asked.key, attempt=asked.attempt)

    def _output(self, asked: TaskPath) -> tuple[ResolvedOutput, str]:
        resolution = None if asked.run is None else self._resolve(asked)
        if resolution is None or len(asked.rest) < 2:
            raise NotFoundError(
                f"task://{asked.text} names no file: list it with ls()", location=f"task://{asked.text}"
            )
        return tree.output_of(asked, resolution), "/".join(asked.rest[1:])

    def _pin(self, path: str) -> str:
        asked = self._parse(path)
        if asked.run is None or asked.attempt is not None:
            return asked.text
        try:
            resolution = self._resolve(asked)
        except NotPublishedError:
            if self._mapped(asked):
                return asked.text
            raise
        return "/".join((f"{resolution.key}@{resolution.attempt}"[1:], *asked.rest))

    def _above(self, asked: TaskPath) -> list[str]:
        """Return the names one level below a team's, DAG's or task's folder that are addresses; what is none is not ours."""
        names, _ = self.layer.home.children(asked.text)
        return [name for name in names if _is_address(f"{asked.text}/{name}".lstrip("/"))]

    def _runs(self, asked: TaskPath, names: list[str]) -> list[Info]:
        """Return the runs of a task that have something committed. Each costs a request, so they are asked side by side."""

        def look(name: str) -> Info | None:
            run = parse_path(f"{asked.text}/{name}")
            try:
                resolution = self._resolve(run)
            except NotPublishedError:
                return tree.folder(run.text) if self._mapped(run) else None
            return tree.folder(f"{run.text}@{resolution.attempt}", resolution.attempt)

        with ThreadPoolExecutor(_READERS, "datalayer-list") as pool:
            return [info for info in pool.map(look, names) if info]

    def _mapped(self, asked: TaskPath) -> list[Info]:
        """Return the committed mapped instances of an unpinned run."""
        if asked.rest or asked.attempt is not None or asked.map_index is not None or asked.run == LATEST:
            return []
        names, _ = self.layer.home.children(asked.key.path)
        mapped = (name for name in names if name.startswith("map_index-"))
        return self._runs(asked, [name for name in mapped if parse_path(f"{asked.text}/{name}").map_index is not None])

    def _expand(self, parts: list[str]) -> Iterator[str]:
        """Yield the pinned paths, and pinned patterns within one attempt, that a pattern stands for."""
        head = next((place for place, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
        root, rest = "/".join(parts[:head]), parts[head:]
        if not rest:
            yield root
            return
        try:
            asked = self._parse(root)
            if asked.run is not None and asked.attempt is None and (asked.rest or asked.map_index is not None):
                resolution = self._resolve(asked)
                root = asked.pinned(resolution.key.run, resolution.attempt)
            elif (asked.run is None or asked.attempt is None) and rest[0] != "**":
                wanted = re.compile(glob_translate(rest[0]))
                for name in self.ls(root, detail=False):
                    last = name.rpartition("/")[2]
                    if wanted.match(last) or wanted.match(last.partition("@")[0]):
                        yield from self._expand([*name.split("/"), *rest[1:]])
                return
        except _ABSENT:
            return
        # Within one attempt fsspec's own glob will do, and for `**` above it: find() meets runs in their pinned form.
        yield "/".join([root, *rest] if root else rest)

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except _ABSENT:
            return None

    def _nothing(self, asked: TaskPath) -> NotFoundError:
        where = self.layer.home.location(asked.text)
        return NotFoundError(
            f"task://{asked.text}: nothing lies at {where}. Check team, DAG and task, or list the level above",
            location=str(where),
        )


def _layer_of_host() -> DataLayer | None:
    from importlib.metadata import entry_points

    for point in entry_points(group=LAYERS):
        found: DataLayer | None = point.load()()
        if found is not None:
            return found
    return None


def _layer_of_environment(config: Mapping[str, Any] | None) -> DataLayer:
    from datalayer.layer import DataLayer

    return DataLayer.from_env(config)


def _unpickled(config: Mapping[str, Any] | None) -> TaskFileSystem:
    return TaskFileSystem(config=config)


def _is_address(text: str) -> bool:
    try:
        return parse_path(text).run != LATEST
    except InvalidKeyError:
        return False
