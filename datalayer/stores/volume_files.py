"""Files on a volume, made visible whole: a temporary file in the target's own folder, synced, then linked or renamed to its name."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING

from datalayer.stores.beneath import open_beneath
from datalayer.stores.paths import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# How often a folder that a concurrent delete removed is made anew before giving up.
_FOLDER_TRIES = 64
# What file systems answer that cannot sync a folder (some FUSE and CIFS mounts); they have no way to do better.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


class TemporaryFile:
    """A file being written that has no name yet which a reader would look at.

    Every method raises ``OSError``. After one did, only :meth:`drop` may follow.
    """

    def __init__(self, root: int, path: str) -> None:
        """Create it in the folder of ``path``, with that folder where it is missing; ``root`` is a file descriptor, which stays open."""
        parent, _, self.name = path.rpartition("/")
        self._temporary = TEMPORARY_PREFIX + secrets.token_hex(8)
        for _ in range(_FOLDER_TRIES):
            self._folder = open_folder(root, parent)
            try:
                self._file = os.open(self._temporary, _NEW, 0o666, dir_fd=self._folder)
            except FileNotFoundError:
                os.close(self._folder)
                continue
            except BaseException:  # also an interrupt leaves nothing open
                os.close(self._folder)
                raise
            break
        else:
            raise OSError(errno.ENOENT, "its folder is deleted as often as it is made", path)
        self._open = True

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes, all of them."""
        view = memoryview(data).cast("B")
        size = view.nbytes
        while view.nbytes:
            view = view[os.write(self._file, view) :]
        return size

    @property
    def descriptor(self) -> int:
        """For copying into it within the kernel."""
        return self._file

    def publish(self, *, replace: bool) -> os.stat_result:
        """Sync the bytes, give the file its name, sync that, and return what the file now is.

        Args:
            replace: Whether a file of that name is replaced; otherwise its presence raises ``FileExistsError``.
        """
        os.fsync(self._file)
        status = os.fstat(self._file)
        # Some network file systems report a failed write only at close, so it comes before the file has its name.
        file, self._file = self._file, -1
        os.close(file)
        try:
            if replace:
                os.rename(self._temporary, self.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            else:
                os.link(
                    self._temporary, self.name, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False
                )
        except (FileExistsError, FileNotFoundError):
            # A network file system repeats a request whose answer was lost, and then answers for the repetition.
            if not self._is(status):
                raise
        if not replace:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._folder)
        try:
            sync_folder(self._folder)
        except OSError as error:
            # Whatever the reason, and be it a full disk: the file has its name already, so nobody may take this for "nothing was written".
            raise OSError(
                errno.EIO, f"the file is visible, but its folder could not be synced: {error.strerror}"
            ) from error
        finally:
            self._close()
        return status

    def drop(self) -> None:
        """Remove it, unless it has its name already. Does nothing the second time."""
        if not self._open:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._folder)
        self._close()

    def _close(self) -> None:
        self._open = False
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _is(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.stat(self.name, dir_fd=self._folder, follow_symlinks=False), status)
        except FileNotFoundError:
            return False


def open_folder(root: int, folder: str) -> int:
    """Return a file descriptor of a folder below ``root``, made where it is missing, durably."""
    for _ in range(_FOLDER_TRIES):
        try:
            return open_beneath(root, folder, _FOLDER)
        except FileNotFoundError:
            # A concurrent delete may remove a folder again as soon as it is made, because it is empty.
            with contextlib.suppress(FileNotFoundError):
                _make_folders(root, folder)
    raise OSError(errno.ENOENT, "it is deleted as often as it is made", folder)


def _make_folders(root: int, folder: str) -> None:
    done = ""
    for name in folder.split("/"):
        with opened(open_beneath(root, done, _FOLDER)) as parent:
            try:
                os.mkdir(name, dir_fd=parent)
            except FileExistsError:
                pass
            else:
                sync_folder(parent)
        done = f"{done}/{name}" if done else name


def remove_file(root: int, path: str) -> None:
    """Remove a file; one that is not there, or is a folder, is no error."""
    parent, _, name = path.rpartition("/")
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError),
        opened(open_beneath(root, parent, _FOLDER)) as folder,
    ):
        os.unlink(name, dir_fd=folder)


def remove_empty_folders(root: int, folder: str) -> None:
    """Remove a folder if it is empty, then those above it, up to the root. Best effort: whoever is writing there keeps theirs."""
    while folder:
        parent, _, name = folder.rpartition("/")
        try:
            with opened(open_beneath(root, parent, _FOLDER)) as above:
                os.rmdir(name, dir_fd=above)
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = parent


def sync_folder(folder: int) -> None:
    """Make the names in a folder durable."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a file descriptor when the block ends."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
