"""How the processes of a cluster are started, and how they are seen to serve."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.services.kubernetes.programs import Programs
from tests.services.kubernetes.site import API_PORT, DOMAIN, NODE, Site


@dataclass(frozen=True)
class Component:
    """A process of the cluster."""

    name: str
    command: list[str | Path]
    serves: Callable[[], bool]
    """Whether it serves now; an OSError is "not yet"."""


def components(site: Site, programs: Programs) -> tuple[list[Component], list[Component], list[Component]]:
    """The processes: what the API server stands on, itself, and what stands on it."""
    folder, pki, conf = site.folder, site.folder / "pki", site.folder / "conf"
    hyperkube = programs.hyperkube

    def client(name: str) -> list[str | Path]:
        config = f"{pki}/{name}.kubeconfig"
        own = ["--kubeconfig", config, "--authentication-kubeconfig", config, "--authorization-kubeconfig", config]
        return [*own, "--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false"]

    store, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    etcd: list[str | Path] = [
        *(hyperkube, "etcd", "--name", NODE, "--data-dir", folder / "etcd", "--log-level", "warn"),
        *("--listen-client-urls", store, "--advertise-client-urls", store),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"{NODE}={peers}"),
        # It need not survive the machine.
        "--unsafe-no-fsync",
    ]
    apiserver: list[str | Path] = [
        *(hyperkube, "kube-apiserver", "--etcd-servers", store, "--profiling=false", "--allow-privileged=true"),
        *("--advertise-address", site.node_address, "--bind-address", site.node_address),
        *("--secure-port", str(API_PORT), "--service-cluster-ip-range", site.services),
        *("--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"),
        *("--client-ca-file", pki / "ca.crt"),
        *("--tls-cert-file", pki / "apiserver.crt", "--tls-private-key-file", pki / "apiserver.key"),
        *("--kubelet-certificate-authority", pki / "ca.crt", "--kubelet-preferred-address-types", "InternalIP"),
        *("--kubelet-client-certificate", pki / "apiserver-kubelet.crt"),
        *("--kubelet-client-key", pki / "apiserver-kubelet.key"),
        *("--service-account-issuer", f"https://kubernetes.default.svc.{DOMAIN}"),
        *("--service-account-key-file", pki / "tokens.pub", "--service-account-signing-key-file", pki / "tokens.key"),
    ]
    controllers: list[str | Path] = [
        *(hyperkube, "kube-controller-manager", *client("controllers"), "--use-service-account-credentials"),
        *("--service-account-private-key-file", pki / "tokens.key", "--root-ca-file", pki / "ca.crt"),
    ]
    kubelet: list[str | Path] = [
        *(hyperkube, "kubelet", "--config", conf / "kubelet.yaml", "--kubeconfig", pki / "kubelet.kubeconfig"),
        *("--hostname-override", NODE, "--node-ip", site.node_address),
        *("--root-dir", folder / "kubelet", "--cert-dir", folder / "kubelet" / "pki"),
    ]
    scheduler: list[str | Path] = [hyperkube, "kube-scheduler", *client("scheduler")]
    proxy: list[str | Path] = [hyperkube, "kube-proxy", "--config", conf / "proxy.yaml"]
    return (
        [
            Component("etcd", etcd, lambda: _listens(("127.0.0.1", 2379))),
            Component(
                "containerd", ["containerd", "--config", conf / "containerd.toml"], lambda: _listens(site.socket)
            ),
        ],
        [Component("kube-apiserver", apiserver, lambda: _api_is_ready(site))],
        [
            Component("kube-controller-manager", controllers, lambda: _listens(("127.0.0.1", 10257))),
            Component("kube-scheduler", scheduler, lambda: _listens(("127.0.0.1", 10259))),
            Component("kubelet", kubelet, lambda: _listens((site.node_address, 10250))),
            Component("kube-proxy", proxy, lambda: _listens(("127.0.0.1", 10249))),
            Component("coredns", [programs.coredns, "-conf", conf / "Corefile"], _dns_is_ready),
        ],
    )


def _listens(address: tuple[str, int] | Path) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(str(address) if isinstance(address, Path) else address)
        return True


def _api_is_ready(site: Site) -> bool:
    trust = ssl.create_default_context(cafile=f"{site.folder}/pki/ca.crt")
    return _answers(http.client.HTTPSConnection(site.node_address, API_PORT, timeout=5, context=trust), "/readyz")


def _dns_is_ready() -> bool:
    return _answers(http.client.HTTPConnection("127.0.0.1", 8182, timeout=5), "/ready")


def _answers(connection: http.client.HTTPConnection, path: str) -> bool:
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()
