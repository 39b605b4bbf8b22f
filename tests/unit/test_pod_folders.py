"""Folders of a pod that containers of different users share."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalayer.errors import VerificationError
from datalayer.handoff.pod_folders import check_readable, open_to_group

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes of other users")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users get to, as an emptyDir of a pod with fsGroup 10001 is."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        folder = Path(made) / "datalayer"
        folder.mkdir()
        if os.geteuid() == 0:
            os.chown(folder, 0, 10001)
        folder.chmod(0o2777)
        yield folder


def by(user: int, script: str, folder: Path, groups: tuple[int, ...] = (10001,)) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-euc", script]
    return subprocess.run(
        command, cwd=folder, user=user, group=user, extra_groups=groups, capture_output=True, text=True, check=False
    )


def keeps_access_lists(folder: Path) -> bool:
    probe = folder / "probe"
    probe.mkdir()
    entries = ((1, 7), (4, 7), (0x20, 5))
    rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", who, what, 0xFFFFFFFF) for who, what in entries)
    try:
        os.setxattr(probe, "system.posix_acl_default", rights)
    except OSError:
        return False
    return True


def as_committer(outputs: Path) -> str:
    """What the check says when user 10001 makes it; empty if all is well."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([10001])
        os.setgid(10001)
        os.setuid(10001)
        try:
            check_readable(outputs)
        except VerificationError as error:
            os.write(told, str(error).encode())
        finally:
            os._exit(0)
    os.close(told)
    os.waitpid(child, 0)
    with os.fdopen(heard, encoding="utf-8") as words:
        return words.read()


@as_root
@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_users_of_one_group_write_beside_each_other_whatever_their_umask(shared: Path, umask: str) -> None:
    open_to_group(shared, shared)
    made = by(12345, f"umask {umask}; mkdir deep; echo data > deep/file", shared)
    assert made.returncode == 0, made.stderr
    if umask != "000" and not keeps_access_lists(shared):
        pytest.skip("this machine's temporary folder keeps no access lists")
    other = by(777, "cat deep/file; echo more > deep/more; rm -r deep", shared)
    assert (other.stdout, other.stderr) == ("data\n", "")


@as_root
def test_a_user_outside_the_group_writes_nothing(shared: Path) -> None:
    open_to_group(shared, shared)
    assert by(777, "echo x > file", shared, groups=()).returncode != 0


@as_root
def test_a_volume_without_a_group_is_the_pod_s_own_and_open(shared: Path) -> None:
    os.chown(shared, 0, 0)
    shared.chmod(0o777)
    out = shared / "out"
    out.mkdir()
    open_to_group(out, shared)
    assert by(777, "echo x > out/file", shared, groups=()).returncode == 0


def test_a_folder_on_another_volume_is_never_open_to_all(shared: Path, tmp_path: Path) -> None:
    shared.chmod(0o777)
    other = tmp_path / "volume"
    other.mkdir()
    open_to_group(other, shared)
    assert stat.S_IMODE(other.stat().st_mode) == 0o2775


@as_root
@pytest.mark.parametrize("name", ["secret", "closed/file"])
def test_what_cannot_be_read_is_named_with_its_owner_and_what_to_do(shared: Path, name: str) -> None:
    own = shared / "out" / "default"
    own.mkdir(parents=True)
    own.chmod(0o2777)
    script = f"umask 077; mkdir -p $(dirname {name}); echo x > {name}"
    assert by(12345, script, own, groups=()).returncode == 0
    words = as_committer(shared / "out")
    assert f"{own / name.partition('/')[0]} belongs to user 12345 and group" in words
    assert "runs as user 10001 with the groups 10001" in words
    assert "umask" in words
    assert "fsGroup" in words


def test_what_can_be_read_passes_and_links_are_not_followed(tmp_path: Path) -> None:
    volume, outputs = tmp_path / "volume", tmp_path / "out"
    (volume / "deep").mkdir(parents=True)
    (volume / "deep/file").write_bytes(b"x")
    (volume / "dangling").symlink_to("nowhere")
    outputs.mkdir()
    (outputs / "default").symlink_to(volume)
    check_readable(outputs)
