"""Where the cluster of a machine is: its folder, its addresses, and the names of what it adds to the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NODE = "node"
"""The name of the only node."""
DOMAIN = "cluster.local"
API_PORT = 6443


@dataclass(frozen=True)
class Site:
    """One place for a cluster on this machine. Two of different numbers do not touch each other.

    Addresses are of 198.18.0.0/15, which is set aside for benchmarks: it is nobody's network.
    """

    number: int = 0

    @property
    def name(self) -> str:
        """The name of its control group, its folder and its lock."""
        return f"datalayer-cluster{self.number or ''}"

    @property
    def folder(self) -> Path:
        """All that it keeps; removed when it ends."""
        return Path("/var/lib") / self.name

    @property
    def lock(self) -> Path:
        """Held by the cluster for as long as one of its processes lives; holds the id of the process to kill."""
        return Path("/run/lock") / self.name

    @property
    def users(self) -> Path:
        """Locked, shared, by everyone who uses it for a while."""
        return Path("/run/lock") / f"{self.name}-users"

    @property
    def ready(self) -> Path:
        """A file that is there when pods can be started."""
        return self.folder / "ready"

    @property
    def kubeconfig(self) -> Path:
        """What tells kubectl, and every other client, to use it."""
        return self.folder / "pki" / "admin.kubeconfig"

    @property
    def kubectl(self) -> Path:
        """The program kubectl, of the cluster's own version."""
        return self.folder / "kubectl"

    @property
    def volumes(self) -> Path:
        """Folders that pods and this machine share, at the same path."""
        return self.folder / "volumes"

    @property
    def socket(self) -> Path:
        """Where containerd answers."""
        return self.folder / "containerd.sock"

    @property
    def host_link(self) -> str:
        """The network interface by which this machine reaches it."""
        return f"dl-host{self.number}"

    @property
    def node_link(self) -> str:
        """The other end of that."""
        return f"dl-node{self.number}"

    @property
    def host_address(self) -> str:
        """This machine, as pods reach it."""
        return f"198.18.{2 * self.number}.1"

    @property
    def node_address(self) -> str:
        """The node, and on it the API server."""
        return f"198.18.{2 * self.number}.2"

    @property
    def pods(self) -> str:
        """The addresses of pods."""
        return f"198.18.{2 * self.number + 1}.0/24"

    @property
    def services(self) -> str:
        """The addresses of services."""
        return f"198.19.{self.number}.0/24"

    @property
    def api_service(self) -> str:
        """The API server, as pods know it: the first address of the services."""
        return f"198.19.{self.number}.1"
