"""Start, in the background, an S3 server and Alluxio in front of it, for a person to play with; end them again.

They listen on loopback, or on the address at which the pods of `make cluster` reach this machine; nowhere else.

One process owns the servers: they die with it, however it ends. Which one it is stands in the cache folder, by its number and
the moment it started, so that no other process is ever ended in its place.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from spark_env.cache import cache_dir
from tests.services.alluxio import AlluxioFolder, AlluxioServer
from tests.services.kubernetes.site import Site
from tests.services.process import HOST
from tests.services.s3server import S3Server, versitygw_server

BUCKET, PREFIX = "outputs", "deployment"
MEMORY, BUDGET = 1 << 30, "900MB"
CONFIG = """\
design = "hot-cold"

[tiers.cold]
url = "s3://{bucket}/{prefix}"
connection = "lake"

[connections.lake]
endpoint = "{s3.endpoint}"
region = "{s3.region}"
access_key_id = "{s3.root.access_key}"
secret_access_key = "{s3.root.secret_key}"

[hot]
url = "{folder.url}"
proxy = "{folder.proxy}"
{mount}budget = "{budget}"
"""


@dataclass(frozen=True)
class Service:
    """One process, as a person is told of it."""

    name: str
    address: str
    pid: int
    started: str
    log: str


def main() -> int:
    """Entry point of `make services` and `make services-down`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("up", "down", "own"), help="'own' is what 'up' starts")
    parser.add_argument(
        "--host", type=own_address, default=HOST, help="loopback, or the cluster's address of this machine"
    )
    told = parser.parse_args()
    what, host = told.what, told.host
    folder = cache_dir() / "services"
    folder.mkdir(parents=True, exist_ok=True)
    if what == "own":
        own(folder, host)
        return 0
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return up(folder, host) if what == "up" else down(folder)


def own_address(text: str) -> str:
    """An address that nobody outside reaches."""
    if text not in {HOST, Site().host_address}:
        raise argparse.ArgumentTypeError(
            f"{text} is neither {HOST} nor {Site().host_address}, which `make cluster` makes"
        )
    return text


def up(folder: Path, host: str) -> int:
    """Start the servers where they do not run, and tell where they are."""
    if owner := running(folder):
        print(f"The services run already (process {owner.pid}); make services-down ends them.")
        tell(folder)
        return 0
    (folder / "state.json").unlink(missing_ok=True)
    log = folder / "services.log"
    with log.open("wb") as output:
        command = [sys.executable, str(Path(__file__).resolve()), "own", "--host", host]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while running(folder) is None:
            if process.poll() is not None:
                print(f"services: they did not start:\n{log.read_text()[-3000:]}", file=sys.stderr)
                return 1
            time.sleep(0.1)
    except BaseException:  # also an interrupt leaves no server running
        process.terminate()  # ours, and not reaped yet: its number is nobody else's
        process.wait()
        raise
    print("Running until make services-down, or until this machine stops; what they hold is gone then.")
    tell(folder)
    return 0


def down(folder: Path) -> int:
    """End the servers that `up` has started."""
    owner = running(folder)
    if owner is None:
        print("No services run.")
        return 0
    watch = os.pidfd_open(owner.pid)
    try:
        # Between the look above and the handle another process cannot have got the number unless this one is gone.
        if started(owner.pid) == owner.started:
            signal.pidfd_send_signal(watch, signal.SIGTERM)
            if not ended(watch, seconds=60):
                signal.pidfd_send_signal(watch, signal.SIGKILL)
                ended(watch, seconds=60)
    finally:
        os.close(watch)
    for name in ("state.json", "datalayer.toml"):
        (folder / name).unlink(missing_ok=True)
    print("The services have ended. Where DATALAYER_CONFIG is set for them: unset DATALAYER_CONFIG")
    return 0


def own(folder: Path, host: str) -> None:
    """Run the servers until SIGTERM."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    with servers(folder, host) as (services, config):
        (folder / "datalayer.toml").touch(mode=0o600)
        (folder / "datalayer.toml").write_text(config)
        state = folder / "state.json"
        fresh = state.with_suffix(".new")
        fresh.write_text(json.dumps([asdict(service) for service in services]))
        fresh.rename(state)
        while True:
            signal.pause()


@contextlib.contextmanager
def servers(folder: Path, host: str) -> Iterator[tuple[list[Service], str]]:
    """The running services, their owner first, and a configuration that uses them."""
    log = folder / "versitygw.log"
    with versitygw_server(log, host) as s3, AlluxioServer(s3, memory=MEMORY, host=host) as alluxio:
        with s3.client() as client:
            client.create_bucket(Bucket=BUCKET)
        with alluxio.mount(BUCKET, PREFIX) as mounted:
            services = [
                service("owner", "", os.getpid(), folder / "services.log"),
                service("S3 (versitygw)", s3.endpoint, s3.pid, log),
            ]
            addresses = {"master": alluxio.url, "proxy": alluxio.proxy_url, "fuse": str(alluxio.mnt)}
            services += [
                service(f"Alluxio {part.name}", addresses.get(part.name, ""), part.pid, part.log)
                for part in alluxio.parts
            ]
            yield services, configuration(s3, mounted)


def configuration(s3: S3Server, folder: AlluxioFolder) -> str:
    """A datalayer.toml that uses them."""
    mount = f'mount = "{folder.mount}"\n' if folder.mount else ""
    return CONFIG.format(s3=s3, folder=folder, mount=mount, bucket=BUCKET, prefix=PREFIX, budget=BUDGET)


def service(name: str, address: str, pid: int, log: Path) -> Service:
    """What is told of a process that runs."""
    return Service(name, address, pid, started(pid) or "", str(log))


def running(folder: Path) -> Service | None:
    """The owner of the servers, if it is the very process that wrote the state."""
    try:
        owner, *_ = read_state(folder)
    except FileNotFoundError:
        return None
    return owner if started(owner.pid) == owner.started else None


def read_state(folder: Path) -> list[Service]:
    """The services as they were started."""
    return [Service(**fields) for fields in json.loads((folder / "state.json").read_text())]


def started(pid: int) -> str | None:
    """When a process started, in a form that no other process of that number will share; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name before the bracket may hold blanks. A process that has ended, and nobody has asked how, runs no more.
    state, ticks = fields[0], fields[19]
    return None if state == "Z" else f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {ticks}"


def ended(watch: int, *, seconds: float) -> bool:
    """Whether a process ends within that time."""
    import select

    return bool(select.select([watch], [], [], seconds)[0])


def tell(folder: Path) -> None:
    """Print what runs where, and the configuration."""
    rows = [("service", "address", "process", "log")]
    rows += [
        (one.name, one.address, str(one.pid) if started(one.pid) == one.started else "ended", one.log)
        for one in read_state(folder)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    config = folder / "datalayer.toml"
    print(f"\n{config.read_text()}\nTry:\n  export DATALAYER_CONFIG={config}")
    address = "aviation/flights/extract@2013-01-01"
    for words in (
        "doctor",
        f"put {address} README.md",
        f"hot warm {address}",
        "hot status",
        f"resolve {address} --field path",
    ):
        print(f"  datalayer {words}")


if __name__ == "__main__":
    sys.exit(main())
