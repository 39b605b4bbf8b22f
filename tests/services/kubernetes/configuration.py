"""The configuration files of a cluster's components, in the folder ``conf`` of its site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.services.kubernetes.programs import CNI, PAUSE
from tests.services.kubernetes.site import DOMAIN, NODE, Site

_CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true  # inside a container it cannot be set below one's own
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{folder}/conf/cni"
"""
_COREFILE = """\
.:53 {{
    bind {address}
    errors
    ready 127.0.0.1:8182
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {folder}/pki/dns.kubeconfig datalayer
        pods insecure
        ttl 2
    }}
    loadbalance
}}
"""


def write_configuration(site: Site, control_group: str) -> None:
    """Write the files.

    Args:
        site: Where the cluster is.
        control_group: The group below which pods get theirs.
    """
    folder = site.folder / "conf"
    (folder / "cni").mkdir(parents=True)
    values = {"folder": site.folder, "socket": site.socket, "pause": PAUSE, "cni": CNI}
    (folder / "containerd.toml").write_text(_CONTAINERD.format(**values))
    corefile = _COREFILE.format(address=site.node_address, domain=DOMAIN, folder=site.folder)
    (folder / "Corefile").write_text(corefile)
    _write(folder / "cni" / "pods.conflist", _network(site))
    _write(folder / "kubelet.yaml", _kubelet(site, folder, control_group))
    _write(folder / "proxy.yaml", _proxy(site))
    _write(folder / "dns-rights.yaml", _dns_rights())
    # Nothing outside the cluster has a name there.
    (folder / "resolv.conf").touch()


def _write(path: Path, content: dict[str, Any]) -> None:
    # JSON is YAML.
    path.write_text(json.dumps(content, indent=1))


def _network(site: Site) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": f"{site.folder}/cni",
        "ranges": [[{"subnet": site.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet(site: Site, conf: Path, control_group: str) -> dict[str, Any]:
    pki = site.folder / "pki"
    nothing = dict.fromkeys(("nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"), "0%")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": site.node_address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet-server.key",
        "containerRuntimeEndpoint": f"unix://{site.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": control_group,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "clusterDNS": [site.node_address],
        "clusterDomain": DOMAIN,
        "resolvConf": f"{conf}/resolv.conf",
        "podLogsDir": f"{site.folder}/log/pods",
        "volumePluginDir": f"{site.folder}/volume-plugins",
        "maxPods": 120,
        # An image cannot be pulled again: none is ever removed, and no pod evicted, because a disk is full.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "200Mi", **nothing},
        "nodeStatusUpdateFrequency": "5s",
        "logging": {"verbosity": 1},
    }


def _proxy(site: Site) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": f"{site.folder}/pki/proxy.kubeconfig"},
        "clusterCIDR": site.pods,
        "hostnameOverride": NODE,
        # These limits are the machine's, not the cluster's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "100ms", "localhostNodePorts": False},
    }


def _dns_rights() -> dict[str, Any]:
    name, api = "system:coredns", "rbac.authorization.k8s.io"
    seen = [("", ["endpoints", "services", "pods", "namespaces"]), ("discovery.k8s.io", ["endpointslices"])]
    rules = [{"apiGroups": [group], "resources": kinds, "verbs": ["list", "watch"]} for group, kinds in seen]
    role = {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": api, "kind": "User", "name": name}],
    }
    return {"apiVersion": "v1", "kind": "List", "items": [role, binding]}
