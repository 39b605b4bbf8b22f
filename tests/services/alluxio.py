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
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.services.alluxio_jars import IMAGE, alluxio_jars
from tests.services.alluxio_part import AlluxioPart
from tests.services.debian import has_fuse
from tests.services.process import HOST, steady_ports
from tests.services.s3server import S3Server

# How Alluxio's S3 interface learns who asks; it believes everybody.
_AUTHORIZATION = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=none"
}
# A file in Alluxio's root, on the local disk: who reads it through the proxy has asked master, worker and proxy.
_PROBE = ("probe", "file", b"served")
# Waits until its owner is gone, and leaves nothing: not the mount point of a FUSE that was killed, no memory, no files.
_SWEEP = """
cat
fusermount3 -quz "$1/mnt"
rmdir "$1/mnt"
for again in 1 2 3 4 5 6 7 8 9; do
    rm -rf --one-file-system "$@" && break
    sleep 0.2
done
"""


class AlluxioServer:
    """Context manager: master, worker, proxy, and FUSE where the kernel has it, each a process of ours on loopback.

    Whatever is read through it is held by the worker in memory, up to `memory` bytes.

    Attributes:
        master, worker, proxy: The processes; a test kills them as it likes, and `start` brings them back.
        fuse: The process that shows Alluxio as files; None where this machine has no FUSE.
        mnt: Where it shows Alluxio's root, read-only.
        cache: The folder where the worker keeps blocks, each in a file named by its id.
    """

    master: AlluxioPart
    worker: AlluxioPart
    proxy: AlluxioPart
    fuse: AlluxioPart | None

    def __init__(self, s3: S3Server, *, memory: int = 512 << 20) -> None:
        self._s3, self._memory = s3, memory
        self._open = contextlib.ExitStack()
        self._numbers = itertools.count()
        self._master_port = self._master_web_port = self._proxy_port = 0

    @property
    def url(self) -> str:
        """Alluxio's root, as Spark names it: ``alluxio://host:port``."""
        return f"alluxio://{HOST}:{self._master_port}"

    @property
    def proxy_url(self) -> str:
        """The proxy: ``http://host:port``."""
        return f"http://{HOST}:{self._proxy_port}"

    @property
    def version(self) -> str:
        """The release of the master."""
        version: str = json.loads(self._get(self._master_web_port, "/api/v1/master/info") or b"{}")["version"]
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
            subprocess.run(["fusermount3", "-quz", self.mnt], check=False)
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
        with self._filled(bucket, prefix):
            source = quote(f"s3://{bucket}/{prefix}", safe="")
            self.ask(folder.path, f"mount?src={source}", {"properties": properties})
        try:
            yield folder
        finally:
            self.start()
            self.ask(folder.path, "unmount")

    @contextlib.contextmanager
    def _filled(self, bucket: str, prefix: str) -> Iterator[None]:
        """Something is below the prefix: Alluxio mounts no prefix under which there is nothing."""
        with self._s3.client() as client:
            key = f"{prefix}/mounting".removeprefix("/")
            client.put_object(Bucket=bucket, Key=key)
            yield
            client.delete_object(Bucket=bucket, Key=key)

    def ask(self, path: str, verb: str, options: dict[str, Any] | None = None) -> Any:
        """Send the proxy a request about a path of Alluxio, and return what it answers.

        Raises:
            RuntimeError: Alluxio refused; with its reason.
        """
        target = f"/api/v1/paths/{quote(path, safe='')}/{verb}"
        status, answer = self._http(self._proxy_port, "POST", target, json.dumps(options or {}))
        if status != http.HTTPStatus.OK:
            raise RuntimeError(f"Alluxio {verb} {path}: {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None

    def __enter__(self) -> Self:
        jars = alluxio_jars()
        for _ in range(3):
            try:
                self._set_up(jars)
                self.start()
            except BaseException:
                clash = any("in use" in part.last_words() for part in self.parts)
                self._open.close()
                if not clash:  # with another run on this machine, over a port
                    raise
            else:
                return self
        raise RuntimeError("Alluxio's ports were taken three times")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _set_up(self, jars: Path) -> None:
        home, memory = self._folders()
        for folder in ("conf", "data/root/probe", "logs", "mnt", "tmp"):
            (home / folder).mkdir(parents=True)
        self.mnt, self.cache = home / "mnt", memory / "alluxioworker"
        Path(home, "data/root", *_PROBE[:2]).write_bytes(_PROBE[2])
        shutil.copy(IMAGE / "log4j.properties", home / "conf")
        ports = steady_ports(5)
        self._master_port, self._master_web_port, _, worker_web, self._proxy_port = ports
        site = home / "conf" / "alluxio-site.properties"
        site.touch(mode=0o600)  # it holds the keys of the S3 server
        site.write_text((IMAGE / site.name).read_text() + self._settings(home, memory, ports))

        def java(heap: int, *words: str | Path) -> list[str | Path]:
            folders = {"alluxio.home": "", "alluxio.conf.dir": "conf", "alluxio.site.conf.dir": "conf"}
            folders |= {"alluxio.logs.dir": "logs", "java.io.tmpdir": "tmp"}
            return [
                *("java", f"-Xmx{heap}m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC", "-XX:-UsePerfData"),
                *("-Djava.net.preferIPv4Stack=true", f"-Dlog4j.configuration=file:{home}/conf/log4j.properties"),
                *(f"-D{name}={home / folder}" for name, folder in folders.items()),
                *("-cp", f"{home}/conf:{jars}/*", *words),
            ]

        def part(name: str, ready: Any, *words: str | Path) -> AlluxioPart:
            made = AlluxioPart(name, java(384, *words), home / "logs" / f"{name}.log", ready, spawner)
            self._open.callback(made.kill)
            return made

        done = subprocess.run(java(64, "alluxio.cli.Format", "master"), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Alluxio's journal could not be made:\n{done.stdout}{done.stderr}")
        spawner = self._open.enter_context(ThreadPoolExecutor(1, "alluxio"))
        self.master = part("master", lambda: self._live_workers() is not None, "alluxio.master.AlluxioMaster")
        self.worker = part(
            "worker",
            # The master may still count the one before it; the worker's own page is there after it has registered.
            lambda: self._get(worker_web, "/api/v1/worker/info") is not None and bool(self._live_workers()),
            "alluxio.worker.AlluxioWorker",
        )
        self.proxy = part("proxy", self._reads, "alluxio.proxy.AlluxioProxy")
        fuse = ["-Dalluxio.fuse.jnifuse.libfuse.version=3", f"-Dalluxio.fuse.mount.point={self.mnt}"]
        fuse += [
            "-Dalluxio.fuse.mount.alluxio.path=/",
            "-Dalluxio.fuse.mount.options=ro,attr_timeout=600,entry_timeout=600",
        ]
        shown = self.mnt.joinpath(*_PROBE[:2])
        self.fuse = part("fuse", shown.exists, *fuse, "alluxio.fuse.AlluxioFuse") if has_fuse() else None

    def _folders(self) -> tuple[Path, Path]:
        """A folder for files and one in memory, which are removed when our block ends or this process is killed."""
        home = Path(tempfile.mkdtemp(prefix="alluxio-"))
        space = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None
        in_memory = space is not None and space.f_bavail * space.f_frsize > 2 * self._memory
        memory = Path(tempfile.mkdtemp(prefix="alluxio-", dir="/dev/shm" if in_memory else None))
        sweeper = subprocess.Popen(
            ["sh", "-c", _SWEEP, "sh", home, memory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._open.callback(sweeper.communicate)  # closes its standard input
        return home, memory

    def _settings(self, home: Path, memory: Path, ports: list[int]) -> str:
        master, master_web, worker, worker_web, proxy = ports
        hosts = ("alluxio.master", "alluxio.worker", "alluxio.user", "alluxio.proxy")
        binds = ("master.bind", "master.web.bind", "worker.bind", "worker.web.bind", "proxy.web.bind")
        settings = {
            **{f"{host}.hostname": HOST for host in hosts},
            **{f"alluxio.{bind}.host": HOST for bind in binds},
            "alluxio.locality.node": HOST,
            "alluxio.master.rpc.port": master,
            "alluxio.master.web.port": master_web,
            "alluxio.worker.rpc.port": worker,
            "alluxio.worker.web.port": worker_web,
            "alluxio.proxy.web.port": proxy,
            "alluxio.master.journal.folder": home / "data/journal",
            "alluxio.master.backup.directory": home / "data/backup",
            "alluxio.master.mount.table.root.ufs": home / "data/root",
            "alluxio.worker.ramdisk.size": self._memory,
            "alluxio.worker.tieredstore.level0.dirs.path": memory,
            "alluxio.worker.tieredstore.level0.dirs.quota": self._memory,
            "alluxio.underfs.s3.endpoint": self._s3.endpoint,
            "alluxio.underfs.s3.endpoint.region": self._s3.region,
            "alluxio.underfs.s3.secure.http.enabled": "false",
            "s3a.accessKeyId": self._s3.root.access_key,
            "s3a.secretKey": self._s3.root.secret_key,
            # What takes seconds on a cluster is not waited for on one machine.
            "alluxio.master.journal.tailer.shutdown.quiet.wait.time": "100ms",
            "alluxio.master.journal.tailer.sleep.time": "50ms",
            "alluxio.master.worker.connect.wait.time": "500ms",
            "alluxio.master.worker.timeout": "3s",
            "alluxio.master.lost.worker.detection.interval": "500ms",
            "alluxio.worker.block.heartbeat.interval": "200ms",
            "alluxio.exit.collect.info": "false",
        }
        return "\n" + "".join(f"{name}={value}\n" for name, value in settings.items())

    def _live_workers(self) -> int | None:
        """How many workers the master counts; None while it does not serve."""
        overview = self._get(self._master_web_port, "/api/v1/master/webui_overview")
        return int(json.loads(overview)["liveWorkerNodes"]) if overview is not None else None

    def _reads(self) -> bool:
        return self._get(self._proxy_port, f"/api/v1/s3/{_PROBE[0]}/{_PROBE[1]}") == _PROBE[2]

    def _get(self, port: int, target: str) -> bytes | None:
        status, answer = self._http(port, "GET", target)
        return answer if status == http.HTTPStatus.OK else None

    def _http(self, port: int, method: str, target: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        try:
            # The proxy's S3 side refuses a type of content where there is none.
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, body, _AUTHORIZATION | kind)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{method} {target}: {error!r}") from error
        finally:
            connection.close()


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
        return self.server.mnt / self.path[1:] if self.server.fuse else None

    def status(self, name: str) -> dict[str, Any]:
        """What Alluxio knows of a file below this folder, in its own words.

        Raises:
            RuntimeError: it knows of none.
        """
        status: dict[str, Any] = self.server.ask(f"{self.path}/{name}", "get-status")
        return status

    def blocks(self, name: str) -> list[Path]:
        """Those files in which the worker holds the blocks of a file, in order; one that is not held is missing."""
        files = [self.server.cache / str(block) for block in self.status(name)["blockIds"]]
        return [file for file in files if file.exists()]

    def flip_byte(self, name: str, at: int = 0) -> None:
        """Change the byte at an offset of a file, in the worker's copy of it only.

        Raises:
            FileNotFoundError: the worker holds no copy of that part.
        """
        status = self.status(name)
        block, offset = divmod(at, status["blockSizeBytes"])
        with (self.server.cache / str(status["blockIds"][block])).open("r+b") as file:
            file.seek(offset)
            (byte,) = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))
