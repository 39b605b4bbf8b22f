"""``StoreTests``: the contract of ``Store``, as tests that a subclass runs against its own store."""

from __future__ import annotations

import hashlib
import io
import pickle
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from datalayer.errors import (
    AlreadyExistsError,
    InvalidKeyError,
    NotFoundError,
    NotSupportedError,
    VerificationError,
)
from datalayer.stores import base
from datalayer.testing.capability_tests import CompareAndPutTests, ExclusivePutOnlyTests, MountedStoreTests, facts
from datalayer.testing.range_tests import RangeTests
from datalayer.testing.writer_tests import MIB, WriterTests

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.stores.base import Store

# Names that one layer or another likes to decode, normalise, split or expand.
ODD_NAMES = (
    "a b",
    " a ",
    "a=b",
    "ü",
    unicodedata.normalize("NFD", "ü"),
    "100%",
    "a%2Fb",
    "%41",
    "a+b",
    "a#b?c",
    "a&b;c,d@e$f!(g)",
    "a:b",
    "a*b[c]{d}",
    "~",
    "a'b\"c`d^e|f<g>",
    "…",
    ".hidden",
    "a..b",
    "-",
    "😀",
    "x" * 200,
)
BAD_PATHS = ("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "./a", "a/.", "a\0b")


class StoreTests(WriterTests, RangeTests):
    """Subclass it, override the fixture ``store`` with an empty store, and pytest runs the contract.

    What only some stores can do has classes of its own in ``datalayer.testing.capability_tests``; inherit from those that fit as well.
    """

    @pytest.fixture
    def store(self) -> Store:
        """An empty store."""
        raise NotImplementedError("override the fixture `store`")

    # Small objects

    def test_the_suite_fits_the_store(self, store: Store) -> None:
        assert isinstance(self, CompareAndPutTests) == store.can_compare_and_put
        assert isinstance(self, ExclusivePutOnlyTests) != store.can_compare_and_put
        assert isinstance(self, MountedStoreTests) == (store.local_path("") is not None)

    def test_what_is_put_is_got(self, store: Store) -> None:
        put = store.put("folder/a", b"hello")
        data, got = store.get("folder/a")
        assert data == b"hello"
        assert isinstance(data, bytes)
        assert facts(put) == facts(got) == facts(store.head("folder/a"))
        assert (put.path, put.size) == ("folder/a", 5)
        assert put.version

    def test_only_what_is_small_is_got(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "MAX_GET_BYTES", 5)
        store.put("small", b"12345")
        store.put("large", b"123456")
        assert store.get("small")[0] == b"12345"
        with pytest.raises(VerificationError, match="has 6 bytes; more than 5 are not read at once"):
            store.get("large")
        assert b"".join(store.stream("large")) == b"123456"

    def test_times_are_aware(self, store: Store) -> None:
        infos = [store.put("a", b"1"), store.head("a"), store.get("a")[1], *store.list("")]
        assert all(info.modified.utcoffset() == timedelta(0) for info in infos)

    def test_an_empty_object_is_one(self, store: Store) -> None:
        assert store.put("empty", b"").size == 0
        assert store.get("empty")[0] == b""
        assert store.head("empty").size == 0
        assert b"".join(store.stream("empty")) == b""
        assert store.get_range("empty", 0, 0) == b""
        with store.open("empty") as file:
            assert file.read() == b""
        assert [info.path for info in store.list("")] == ["empty"]

    def test_a_put_replaces_and_changes_the_version(self, store: Store) -> None:
        first = store.put("a", b"first")
        second = store.put("a", b"second")
        assert store.get("a")[0] == b"second"
        assert first.version != second.version == store.head("a").version

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_names_are_literal(self, store: Store, name: str) -> None:
        path = f"odd/{name}/{name}"
        store.put(path, name.encode())
        assert store.get(path)[0] == name.encode()
        assert store.head(path).path == path
        assert [info.path for info in store.list("odd")] == [path]
        assert store.children("odd")[0] == [name]
        assert [info.path for info in store.children(f"odd/{name}")[1]] == [path]
        with store.open(path) as file:
            assert file.read() == name.encode()
        assert b"".join(store.stream(path)) == name.encode()
        store.copy(path, f"copied/{name}")
        assert store.get(f"copied/{name}")[0] == name.encode()
        store.delete([path])
        assert list(store.list("odd")) == []

    def test_names_that_look_alike_are_different(self, store: Store) -> None:
        for name in ODD_NAMES:
            store.put(f"odd/{name}", name.encode())
        assert {info.path: store.get(info.path)[0] for info in store.list("odd")} == {
            f"odd/{name}": name.encode() for name in ODD_NAMES
        }

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_a_path_that_is_none_is_refused(self, store: Store, path: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: store.head(path),
            lambda: store.get(path),
            lambda: store.get_range(path, 0, 1),
            lambda: store.open(path),
            lambda: list(store.stream(path)),
            lambda: store.put(path, b""),
            lambda: store.put_exclusive(path, b""),
            lambda: store.writer(path),
            lambda: store.copy(path, "a"),
            lambda: store.copy("a", path),
            lambda: store.delete([path]),
        ]
        if path:  # which is the whole store, for these
            calls += [lambda: list(store.list(path)), lambda: store.children(path)]
        store.put("a", b"")
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()
        assert [info.path for info in store.list("")] == ["a"]

    @pytest.mark.parametrize(
        "path", ["x" * 256, "ü" * 128, "/".join(["x" * 200] * 6), ".datalayer-tmp-1", "a/.datalayer-tmp-1/b", "\ud800"]
    )
    def test_a_name_that_not_every_store_can_hold_is_refused(self, store: Store, path: str) -> None:
        for write in (store.put, store.put_exclusive):
            with pytest.raises(InvalidKeyError):
                write(path, b"")
        with pytest.raises(InvalidKeyError):
            store.writer(path)
        assert list(store.list("")) == []

    # What is not there

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        store.put("folder/a", b"1")
        for path in ("nothing", "folder", "folder/b", "folder/a/b"):
            for call in (store.head, store.get, store.open, lambda path: store.get_range(path, 0, 1)):
                with pytest.raises(NotFoundError) as caught:
                    call(path)
                assert caught.value.tier == store.tier
                assert caught.value.location == str(store.location(path))
                assert str(store.location(path)) in str(caught.value)
                assert not caught.value.retryable
            with pytest.raises(NotFoundError):
                list(store.stream(path))
            with pytest.raises(NotFoundError):
                store.copy(path, "target")
        assert [info.path for info in store.list("")] == ["folder/a"]

    def test_errors_pickle(self, store: Store) -> None:
        with pytest.raises(NotFoundError) as caught:
            store.get("nothing")
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own bytes
        assert (type(again), str(again), again.location) == (NotFoundError, str(caught.value), caught.value.location)

    # Files

    def test_a_file_reads_and_seeks(self, store: Store) -> None:
        data = bytes(range(256)) * 40_000  # 10 MB: more than any buffer
        with store.writer("a") as writer:
            writer.write(data)
        with store.open("a") as file:
            assert file.readable()
            assert file.seekable()
            assert not file.writable()
            assert file.read(3) == data[:3]
            assert file.seek(-5, 2) == len(data) - 5
            assert file.read() == data[-5:]
            assert file.read() == b""
            assert file.seek(6_000_000) == file.tell() == 6_000_000
            assert file.read(100_000) == data[6_000_000:6_100_000]
            assert file.seek(10, 1) == 6_100_010
            assert file.read(9_000_000) == data[6_100_010:]
            assert file.seek(len(data) + 10) == len(data) + 10
            assert file.read(1) == b""
            file.seek(0)
            assert file.read() == data
            with pytest.raises((OSError, ValueError)):
                file.seek(-1)
            with pytest.raises(io.UnsupportedOperation):
                file.write(b"x")
        assert file.closed

    def test_a_file_gives_lines(self, store: Store) -> None:
        store.put("a", b"one\ntwo\nthree")
        with store.open("a") as file:
            assert list(file) == [b"one\n", b"two\n", b"three"]

    @pytest.mark.parametrize("chunk_size", [1000, 65_536, 5 * MIB])
    def test_a_stream_is_whole_and_in_order(self, store: Store, chunk_size: int) -> None:
        data = hashlib.sha256(b"seed").digest() * 5000
        store.put("a", data)
        chunks = list(store.stream("a", chunk_size=chunk_size))
        assert b"".join(chunks) == data
        assert max(map(len, chunks)) <= chunk_size * 2

    def test_a_stream_may_be_left_early(self, store: Store) -> None:
        store.put("a", bytes(3 * MIB))
        stream = store.stream("a", chunk_size=MIB)
        assert next(iter(stream))
        del stream

    # Exclusive and conditional puts

    def test_an_exclusive_put_happens_once(self, store: Store) -> None:
        put = store.put_exclusive("a", b"first")
        assert facts(put) == facts(store.head("a"))
        with pytest.raises(AlreadyExistsError) as caught:
            store.put_exclusive("a", b"second")
        assert caught.value.location == str(store.location("a"))
        assert store.get("a")[0] == b"first"
        store.delete(["a"])
        store.put_exclusive("a", b"third")
        assert store.get("a")[0] == b"third"

    def test_an_exclusive_put_respects_what_was_put_otherwise(self, store: Store) -> None:
        store.put("a", b"1")
        with store.writer("b") as writer:
            writer.write(b"2")
        for path in ("a", "b"):
            with pytest.raises(AlreadyExistsError):
                store.put_exclusive(path, b"")
        assert (store.get("a")[0], store.get("b")[0]) == (b"1", b"2")

    def test_many_threads_may_use_one_store(self, store: Store) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: store.put(f"deep/{number % 7}/{number}", b"%d" % number), range(200)))
            found = list(pool.map(lambda info: (info.path, store.get(info.path)[0]), store.list("deep")))
        assert sorted(found) == sorted((f"deep/{number % 7}/{number}", b"%d" % number) for number in range(200))

    # Writers

    def test_a_copy_is_a_second_object(self, store: Store) -> None:
        source = store.put("a", b"hello")
        target = store.copy("a", "folder/b")
        assert facts(target) == facts(store.head("folder/b"))
        assert (target.path, target.size) == ("folder/b", 5)
        store.delete(["a"])
        assert store.get("folder/b")[0] == b"hello"
        store.put("a", b"new")
        store.copy("a", "folder/b")
        assert store.get("folder/b")[0] == b"new"
        assert source.size == 5

    def test_a_delete_is_of_these_objects_alone(self, store: Store) -> None:
        for path in ("a/b", "a/bc", "a/d/e", "ab"):
            store.put(path, b"1")
        store.delete(["a/b", "nothing", "a/nothing/at/all", "a/d"])
        assert sorted(info.path for info in store.list("")) == ["a/bc", "a/d/e", "ab"]
        store.delete(["a/b"])
        store.delete([])
        store.delete(path for path in ["a/d/e", "a/d/e"])
        assert sorted(info.path for info in store.list("")) == ["a/bc", "ab"]
        assert store.children("")[0] == ["a"]
        assert store.children("a")[0] == []

    def test_a_folder_may_be_filled_again(self, store: Store) -> None:
        for _ in range(3):
            store.put("a/b/c", b"1")
            store.delete(["a/b/c"])
            assert store.children("") == ([], [])

    def test_writes_beside_deletes_in_one_folder_all_land(self, store: Store) -> None:
        def churn(worker: int) -> None:
            for turn in range(20):
                store.put(f"a/b/{worker}-{turn}", b"1")
                store.delete([f"a/b/{worker}-{turn}"])
            store.put(f"a/b/{worker}", b"1")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(churn, range(8)))
        assert sorted(info.path for info in store.list("a")) == [f"a/b/{worker}" for worker in range(8)]

    def test_more_than_a_thousand_are_listed_and_deleted(self, store: Store) -> None:
        paths = [f"many/{number % 3}/{number:04}" for number in range(1203)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda path: store.put(path, b""), paths))
        assert sorted(info.path for info in store.list("many")) == sorted(paths)
        assert [info.path for info in store.children("many/0")[1]] == sorted(paths[::3])
        store.delete(paths)
        assert list(store.list("")) == []

    # Listing

    def test_a_listing_is_of_what_is_below_a_folder(self, store: Store) -> None:
        paths = ["a/1", "a/b/2", "a/b/c/3", "ab/4", "a.5"]
        put = {path: store.put(path, path.encode()) for path in paths}
        assert sorted(info.path for info in store.list("")) == sorted(paths)
        assert sorted(info.path for info in store.list("a")) == ["a/1", "a/b/2", "a/b/c/3"]
        assert [info.path for info in store.list("a/b/c")] == ["a/b/c/3"]
        assert list(store.list("a/1")) == []
        assert list(store.list("nothing")) == []
        assert {info.path: facts(info) for info in store.list("")} == {path: facts(info) for path, info in put.items()}

    def test_a_folder_holds_only_what_it_holds(self, store: Store) -> None:
        assert store.holds_only("a/1", "a/1/claim")
        store.put("a/10/x", b"")
        store.put("a/1/claim", b"")
        assert store.holds_only("a/1", "a/1/claim")
        assert not store.holds_only("a/1", "a/1/other")
        assert not store.holds_only("a", "a/1/claim")
        for name in ("a/1/A", "a/1/deep/x", "a/1/z"):
            store.put(name, b"")
            assert not store.holds_only("a/1", "a/1/claim")
            store.delete([name])
        assert store.holds_only("a/1", "a/1/claim")

    def test_a_listing_agrees_with_what_was_just_written(self, store: Store) -> None:
        for number in range(20):
            store.put(f"a/{number}", b"1")
            assert len(list(store.list("a"))) == number + 1
        for number in range(20):
            store.delete([f"a/{number}"])
            assert len(list(store.list("a"))) == 19 - number

    def test_children_are_one_level(self, store: Store) -> None:
        for path in ("a/2", "a/1", "a/z/1", "a/y/1/2", "b"):
            store.put(path, path.encode())
        folders, objects = store.children("a")
        assert folders == ["y", "z"]
        assert [facts(info) for info in objects] == [facts(store.head("a/1")), facts(store.head("a/2"))]
        assert store.children("")[0] == ["a"]
        assert [info.path for info in store.children("")[1]] == ["b"]
        assert store.children("nothing") == store.children("b") == ([], [])

    # Views

    def test_locations_are_below_the_root(self, store: Store) -> None:
        assert store.location() == store.root
        assert store.location("a/b") == store.root.join("a", "b")
        assert store.location("a/b").is_within(store.root)

    def test_the_file_system_reads_what_was_written(self, store: Store) -> None:
        files = store.filesystem
        for path in ("a/1", "a/b/ü 2", "a/b/100%"):
            store.put(path, path.encode())
        assert files.cat_file(store.filesystem_path("a/b/ü 2")) == "a/b/ü 2".encode()
        assert files.cat_file(store.filesystem_path("a/1"), start=1, end=3) == b"/1"
        with files.open(store.filesystem_path("a/b/100%"), "rb") as file:
            assert file.read() == b"a/b/100%"
        assert files.info(store.filesystem_path("a/1"))["size"] == 3
        assert files.isdir(store.filesystem_path("a"))
        assert not files.exists(store.filesystem_path("a/nothing"))
        found = [path.removeprefix("/") for path in files.find(store.filesystem_path("a"))]
        assert sorted(found) == sorted(
            store.filesystem_path(path).removeprefix("/") for path in ("a/1", "a/b/ü 2", "a/b/100%")
        )
        store.put("a/new", b"")
        assert files.exists(store.filesystem_path("a/new"))

    def test_the_arrow_file_system_reads_what_was_written(self, store: Store) -> None:
        fs = pytest.importorskip("pyarrow.fs")
        store.put("a/b/ü 100%", b"hello")
        path = store.filesystem_path("a/b/ü 100%")
        with store.arrow_filesystem.open_input_file(path) as file:
            assert file.read() == b"hello"
        found = store.arrow_filesystem.get_file_info(fs.FileSelector(store.filesystem_path("a"), recursive=True))
        assert [(info.path, info.size) for info in found if info.is_file] == [(path, 5)]

    def test_spark_has_a_uri_or_is_told_that_there_is_none(self, store: Store) -> None:
        try:
            uri = store.spark_uri("a/b c")
        except NotSupportedError:
            return
        assert uri.endswith("/a/b c")
        assert uri.startswith(("file:///", "s3a://"))
