"""Alluxio for tests: its real servers in front of an S3 server, on loopback, with a folder of Alluxio for each test.

::

    with AlluxioServer(s3) as alluxio, alluxio.mount(s3.new_bucket()) as folder:
        folder.url, folder.proxy, folder.mount  # what a configuration's [hot] takes
        alluxio.worker.kill()
        ...
        alluxio.start()  # whatever does not run
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.services.alluxio_home import AlluxioHome, alluxio_home
from tests.services.alluxio_part import AlluxioPart
from tests.services.debian import FUSE, has_fuse, installed
from tests.services.process import HOST
from tests.services.s3server import S3Server

# How Alluxio's S3 side learns who asks; it believes everybody.
_AUTHORIZATION = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=none"
}
# A file in Alluxio's root, on the local disk: who reads it through the proxy has asked master, worker and proxy.
_PROBE, _SERVED = "probe/file", b"served"


class AlluxioServer:
    """Context manager: master, worker, proxy, and FUSE where the kernel has it, each a process of ours on loopback.

    Args:
        s3: The server whose buckets it shows.
        memory: Bytes that the worker holds, at most.
        measured: Whether its speed matters, and not how soon it runs.
        host: The address of this machine on which it is reached.

    Attributes:
        master, worker, proxy: The processes; a test kills them as it likes, and `start` brings them back.
        fuse: The process that shows Alluxio as files; None where this machine has no FUSE.
    """

    master: AlluxioPart
    worker: AlluxioPart
    proxy: AlluxioPart
    fuse: AlluxioPart | None

    def __init__(self, s3: S3Server, *, memory: int = 512 << 20, measured: bool = False, host: str = HOST) -> None:
        self._s3, self._memory, self._measured, self._host = s3, memory, measured, host
        self._open = contextlib.ExitStack()
        self._numbers = itertools.count()

    @property
    def url(self) -> str:
        """Alluxio's root, as Spark names it: ``alluxio://host:port``."""
        return f"alluxio://{self._host}:{self._home.ports.master}"

    @property
    def proxy_url(self) -> str:
        """The proxy: ``http://host:port``."""
        return f"http://{self._host}:{self._home.ports.proxy}"

    @property
    def mnt(self) -> Path | None:
        """Where FUSE shows Alluxio's root, read-only; None where this machine has no FUSE."""
        return self._home.mnt if self.fuse else None

    @property
    def blocks(self) -> Path:
        """The folder where the worker keeps the blocks that it holds, each in a file named by its id."""
        return self._home.memory / "alluxioworker"

    @property
    def folders(self) -> tuple[Path, Path]:
        """What it uses of this machine: a folder on disk and one in memory."""
        return self._home.folder, self._home.memory

    @property
    def version(self) -> str:
        """The release of the master."""
        _, answer = _http(self._host, self._home.ports.master_web, "GET", "/api/v1/master/info")
        version: str = json.loads(answer)["version"]
        return version

    @property
    def parts(self) -> list[AlluxioPart]:
        """All processes."""
        return [part for part in (self.master, self.worker, self.proxy, self.fuse) if part]

    def start(self, *, seconds: float = 120) -> None:
        """Start what does not run, and return when a read gets through: with nothing to do, at once.

        Raises:
            RuntimeError: a process ended, or it took longer than that; with the end of its log.
        """
        if self.fuse and not self.fuse.running:
            # After a FUSE process that was killed its mount point is there and broken.
            subprocess.run(["fusermount3", "-quz", self._home.mnt], check=False)
        for part in self.parts:
            part.start()
        deadline = time.monotonic() + seconds
        for part in self.parts:
            while not part.serves:
                if not part.running or time.monotonic() > deadline:
                    raise RuntimeError(f"Alluxio's {part.name} did not get ready:\n{part.last_words()}")
                time.sleep(0.05)

    @contextlib.contextmanager
    def mount(self, bucket: str, prefix: str = "", *, endpoint: str | None = None) -> Iterator[AlluxioFolder]:
        """A folder of Alluxio that shows what is below a prefix of a bucket. All servers run when its block begins.

        No two folders may show the same objects.

        Args:
            bucket: A bucket of the S3 server.
            prefix: Without a slash at its end.
            endpoint: Where Alluxio is to reach the S3 server, such as a fault proxy in front of it.
        """
        self.start()
        folder = AlluxioFolder(self, f"/outputs-{next(self._numbers)}")
        # No credentials here: the master would write them into its log.
        properties = {"alluxio.underfs.s3.endpoint": endpoint or self._s3.endpoint}
        source = quote(f"s3://{bucket}/{prefix}", safe="")
        with self._filled(bucket, prefix) as name:
            self.ask(folder.path, f"mount?src={source}", {"properties": properties})
            # The first read of a mount loads what speaks S3, for seconds on a busy machine: longer than a reader may wait.
            _http(self._host, self._home.ports.proxy, "GET", f"/api/v1/s3{folder.path}/{name}")
        try:
            # Alluxio looks at S3, and forgets what is gone from there.
            self.ask(f"{folder.path}/{name}", "exists", {"commonOptions": {"syncIntervalMs": 0}})
            yield folder
        finally:
            self.start()
            self.ask(folder.path, "unmount")

    def ask(self, path: str, verb: str, options: dict[str, Any] | None = None) -> Any:
        """Send the proxy a request about a path of Alluxio, and return what it answers.

        Raises:
            RuntimeError: Alluxio refused; with its reason.
        """
        target = f"/api/v1/paths/{quote(path, safe='')}/{verb}"
        status, answer = _http(self._host, self._home.ports.proxy, "POST", target, json.dumps(options or {}))
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"Alluxio {verb} {path}: {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None

    def __enter__(self) -> Self:
        if has_fuse():
            installed(FUSE)
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                self._home = stack.enter_context(
                    alluxio_home(self._s3, memory=self._memory, measured=self._measured, host=self._host)
                )
                self._make_parts(self._home, stack)
                try:
                    self.start()
                except RuntimeError:
                    if not any("Address already in use" in part.last_words() for part in self.parts):
                        raise
                else:
                    self._open = stack.pop_all()
                    return self
        raise RuntimeError("other programs took Alluxio's ports three times")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _make_parts(self, home: AlluxioHome, stack: contextlib.ExitStack) -> None:
        probe = home.root / _PROBE
        probe.parent.mkdir()
        probe.write_bytes(_SERVED)
        spawner = stack.enter_context(ThreadPoolExecutor(1, "alluxio"))
        # Master and worker open these ports last, the worker after it has registered. Their pages would say more, for
        # seconds of CPU time. That all of them serve is seen at the proxy.
        self.master = AlluxioPart(
            "master",
            home.java("alluxio.master.AlluxioMaster"),
            home.log("master"),
            lambda: _listens(home.host, home.ports.master),
            spawner,
        )
        self.worker = AlluxioPart(
            "worker",
            home.java("alluxio.worker.AlluxioWorker"),
            home.log("worker"),
            lambda: _listens(home.host, home.ports.worker_web),
            spawner,
        )
        self.proxy = AlluxioPart(
            "proxy",
            home.java("alluxio.proxy.AlluxioProxy"),
            home.log("proxy"),
            lambda: _http(home.host, home.ports.proxy, "GET", f"/api/v1/s3/{_PROBE}") == (http.HTTPStatus.OK, _SERVED),
            spawner,
        )
        self.fuse = None
        if has_fuse():
            settings = {
                "alluxio.fuse.jnifuse.libfuse.version": "3",
                "alluxio.fuse.mount.alluxio.path": "/",
                "alluxio.fuse.mount.options": "ro,attr_timeout=600,entry_timeout=600",
                "alluxio.fuse.mount.point": str(home.mnt),
            }
            command = home.java("alluxio.fuse.AlluxioFuse", settings=settings)
            self.fuse = AlluxioPart("fuse", command, home.log("fuse"), (home.mnt / _PROBE).exists, spawner)
        for part in self.parts:
            stack.callback(part.kill)

    @contextlib.contextmanager
    def _filled(self, bucket: str, prefix: str) -> Iterator[str]:
        """The name of an object that is below the prefix: Alluxio mounts no prefix under which there is nothing."""
        name = "mounting"
        with self._s3.client() as client:
            key = f"{prefix}/{name}".removeprefix("/")
            client.put_object(Bucket=bucket, Key=key, Body=b"something")
            yield name
            client.delete_object(Bucket=bucket, Key=key)


@dataclass(frozen=True)
class AlluxioFolder:
    """A folder of Alluxio under which a bucket, or a prefix of one, is mounted."""

    server: AlluxioServer
    path: str
    """From Alluxio's root."""

    @property
    def url(self) -> str:
        """As Spark names it."""
        return self.server.url + self.path

    @property
    def proxy(self) -> str:
        """URL of Alluxio's proxy."""
        return self.server.proxy_url

    @property
    def mount(self) -> Path | None:
        """Where FUSE shows this folder, read-only; None where this machine has no FUSE."""
        return self.server.mnt / self.path[1:] if self.server.mnt else None

    def status(self, name: str) -> dict[str, Any]:
        """What Alluxio knows of a file below this folder, in its own words.

        Raises:
            RuntimeError: it knows of none.
        """
        status: dict[str, Any] = self.server.ask(f"{self.path}/{name}", "get-status")
        return status

    def blocks(self, name: str) -> list[Path]:
        """Those files in which the worker holds the blocks of a file, in order; one that is not held is missing."""
        files = [self.server.blocks / str(block) for block in self.status(name)["blockIds"]]
        return [file for file in files if file.exists()]

    def flip_byte(self, name: str, at: int = 0) -> None:
        """Change the byte at an offset of a file, in the worker's copy of it only.

        Raises:
            FileNotFoundError: the worker holds no copy of that part.
        """
        status = self.status(name)
        block, offset = divmod(at, status["blockSizeBytes"])
        with (self.server.blocks / str(status["blockIds"][block])).open("r+b") as file:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))


def _listens(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=5):
        return True


def _http(host: str, port: int, method: str, target: str, body: str | None = None) -> tuple[int, bytes]:
    """Status and body of an answer; every failure is an OSError."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        # The proxy's S3 side refuses a type of content where there is no content.
        kind = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, target, body, _AUTHORIZATION | kind)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{method} {target}: {error!r}") from error
    finally:
        connection.close()
