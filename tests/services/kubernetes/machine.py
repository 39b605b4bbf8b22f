"""What a cluster leaves on a machine in spite of its namespaces, and its removal: control groups, folders, kernel settings."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

from tests.services.kubernetes.site import Site

_GROUPS = Path("/sys/fs/cgroup")
# Folders that Kubernetes uses, whatever it is told. The cluster sees empty ones of its own in their place.
HIDDEN = ("/run", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")
# What every kubelet sets for the whole kernel.
_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def make_room(site: Site) -> None:
    """Make the site's empty folder, after what an earlier cluster left, and note how the machine was."""
    remove(site)
    site.folder.mkdir(parents=True)
    made = [folder for folder in HIDDEN if not Path(folder).exists()]
    settings = {
        name: (Path("/proc/sys") / name).read_text() for name in _SETTINGS if (Path("/proc/sys") / name).exists()
    }
    (site.folder / "machine.json").write_text(json.dumps({"made": made, "settings": settings}))
    for folder in made:
        Path(folder).mkdir(parents=True)
    for top in _group_tops():
        (top / site.name).mkdir(exist_ok=True)
    site.volumes.mkdir()
    (site.folder / "log" / "pods").mkdir(parents=True)


def remove(site: Site) -> None:
    """Make the machine what it was. The caller holds the site's lock, so that no process of the cluster lives."""
    # The kernel removes the link after the cluster's network, when it finds the time.
    if (Path("/sys/class/net") / site.host_link).exists():
        subprocess.run(["ip", "link", "delete", site.host_link], capture_output=True, check=False)
    for top in _group_tops():
        _remove_group(top / site.name)
    note = site.folder / "machine.json"
    if note.exists():
        _restore(**json.loads(note.read_text()))
    if site.folder.exists():
        # The note goes last: a removal that is killed is taken up again.
        for entry in site.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != note:
                entry.unlink()
        shutil.rmtree(site.folder)


def _restore(made: list[str], settings: dict[str, str]) -> None:
    for name, value in settings.items():
        setting = Path("/proc/sys") / name
        if setting.read_text() != value:
            setting.write_text(value)
    for folder in made:
        # What is in it now is somebody else's.
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _group_tops() -> list[Path]:
    """The top of each hierarchy of control groups that a process can be in."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    return [
        top for top in _GROUPS.iterdir() if top.is_dir() and not top.is_symlink() and (top / "cgroup.procs").exists()
    ]


def _remove_group(top: Path) -> None:
    deadline = time.monotonic() + 30
    while top.exists():
        for group in sorted((path for path in (top, *top.rglob("*")) if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()
        # A group counts as in use for a moment after its last process is gone.
        if time.monotonic() > deadline:
            raise RuntimeError(f"the control group {top} cannot be removed: see what is in its cgroup.procs")
        time.sleep(0.05)
