"""The folders of a pod that containers of different users share.

The job's container may run as any user, ours runs as another. What both have is the pod's ``fsGroup``, which the kubelet also gives to the
volume: folders belong to it, and what is made in them does by itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from typing import TYPE_CHECKING

from datalayer.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ACL_VERSION = 2
_OWNER, _GROUP, _OTHERS = 0x01, 0x04, 0x20
_READ, _WRITE, _SEARCH = 4, 2, 1
_NOBODY_NAMED = 0xFFFFFFFF


def open_to_group(folder: Path, root: Path) -> None:
    """Let every container of the pod write into a folder, and read and remove what the others wrote there.

    Args:
        folder: The folder; this process made it.
        root: The pod's own volume, as the kubelet made it: the folder gets its group.
    """
    as_made = root.stat()
    # Without a group there is nothing to share but everything, which in a volume of this pod alone harms nobody.
    private = folder.is_relative_to(root) and not as_made.st_mode & stat.S_ISGID
    with contextlib.suppress(PermissionError):  # A group that the pod has not: then the folder's own rights must do.
        os.chown(folder, -1, as_made.st_gid)
    folder.chmod(0o2777 if private else 0o2775)
    # Whatever umask the job has: the group may read and write what it makes. A file system without such lists goes by the umask.
    with contextlib.suppress(OSError):
        os.setxattr(folder, "system.posix_acl_default", _default_rights())


def _default_rights() -> bytes:
    everything = _READ | _WRITE | _SEARCH
    entries = ((_OWNER, everything), (_GROUP, everything), (_OTHERS, _READ | _SEARCH))
    return struct.pack("<I", _ACL_VERSION) + b"".join(
        struct.pack("<HHI", who, rights, _NOBODY_NAMED) for who, rights in entries
    )


def check_readable(outputs: Path) -> None:
    """Make sure that this process can read all that the job left.

    Raises:
        VerificationError: There is something that it cannot; the message names it, its owner and what to do.
    """
    for path in _everything(outputs):
        try:
            found = path.lstat()
            readable = stat.S_ISLNK(found.st_mode) or os.access(path, _needed(found))
        except FileNotFoundError:
            continue
        if not readable:
            groups = ", ".join(str(group) for group in sorted({os.getegid(), *os.getgroups()}))
            raise VerificationError(
                f"{path} belongs to user {found.st_uid} and group {found.st_gid} with the rights {stat.filemode(found.st_mode)}, and the "
                f"committer, which runs as user {os.geteuid()} with the groups {groups}, cannot read it. Have the job write with umask 002 or "
                "022, or run the pod with one user (securityContext.runAsUser) or with an fsGroup that both containers have"
            )


def _everything(outputs: Path) -> Iterator[Path]:
    pending = [outputs]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as found:
            items = list(found)
        for item in items:
            path = folder / item.name
            yield path
            # An output's own folder may be a link to where its tier is mounted; below it nothing is followed.
            if item.is_dir(follow_symlinks=folder == outputs):
                pending.append(path)


def _needed(found: os.stat_result) -> int:
    return os.R_OK | os.X_OK if stat.S_ISDIR(found.st_mode) else os.R_OK
