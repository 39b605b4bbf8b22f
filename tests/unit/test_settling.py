"""What an engine or a program wrote to a mounted tier is made durable, and only what was listed is committed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from datalayer import VerificationError
from datalayer.commit.settling import settle_files
from datalayer.stores.checksum import checksum_of


@pytest.mark.parametrize("checksums", [True, False])
def test_every_file_and_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksums: bool) -> None:
    files = {tmp_path / "a": b"12345", tmp_path / "deep" / "er" / "b": b""}
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    synced: list[str] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    sums = settle_files({path: len(data) for path, data in files.items()}, checksums=checksums)
    assert sums == {path: checksum_of([data])[0] if checksums else None for path, data in files.items()}
    assert {*map(str, files), str(tmp_path), str(tmp_path / "deep" / "er")} <= set(synced)


@pytest.mark.parametrize("checksums", [True, False])
def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path: Path, checksums: bool) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"123456")
    with pytest.raises(VerificationError, match="changed while it was being verified"):
        settle_files({path: 5}, checksums=checksums)


def test_a_link_swapped_in_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"12345")
    (tmp_path / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(VerificationError, match="cannot be read back"):
        settle_files({tmp_path / "a": 5}, checksums=True)


def test_f12_an_io_error_at_the_sync_of_a_foreign_file_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"1")

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(VerificationError, match="Input/output error"):
        settle_files({tmp_path / "a": 1}, checksums=False)
