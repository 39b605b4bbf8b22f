"""The keys and certificates of a cluster, and a kubeconfig for each of its components and for its administrator."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.services.kubernetes.site import API_PORT, DOMAIN, NODE, Site

_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
# Who a component is to the API server. Its rights hang on these names.
CLIENTS = {
    "admin": ("datalayer-admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", None),
    "dns": ("system:coredns", None),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "proxy": ("system:kube-proxy", None),
    "scheduler": ("system:kube-scheduler", None),
}


def write_certificates(site: Site) -> None:
    """Fill ``pki`` in the site's folder: an authority, what it signed, ``<client>.kubeconfig``, and the key of tokens."""
    folder = site.folder / "pki"
    folder.mkdir(mode=0o700)
    authority = _Authority(folder)
    inside = [f"kubernetes{rest}" for rest in ("", ".default", ".default.svc", f".default.svc.{DOMAIN}")]
    authority.sign("apiserver", "kube-apiserver", None, _SERVER, inside, [site.node_address, site.api_service])
    authority.sign("kubelet-server", f"system:node:{NODE}", "system:nodes", _SERVER, [NODE], [site.node_address])
    authority.sign("apiserver-kubelet", "kube-apiserver-kubelet", "system:masters", _CLIENT)
    for name, (user, group) in CLIENTS.items():
        authority.sign(name, user, group, _CLIENT)
        (folder / f"{name}.kubeconfig").write_text(_kubeconfig(folder, name, f"https://{site.node_address}:{API_PORT}"))
    tokens = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / "tokens.key", tokens)
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "tokens.pub").write_bytes(tokens.public_key().public_bytes(serialization.Encoding.PEM, public))


class _Authority:
    """Signs certificates for as long as any cluster may live."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = _name("datalayer-authority", None)
        authority = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self._write("ca", authority, self._key)

    def sign(
        self,
        name: str,
        user: str,
        group: str | None,
        usage: x509.ObjectIdentifier,
        names: list[str] | None = None,
        addresses: list[str] | None = None,
    ) -> None:
        """Write ``name.crt`` and ``name.key``."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(user, group), key).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        known: list[x509.GeneralName] = [x509.DNSName(known) for known in names or []]
        known += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses or []]
        if known:
            builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        self._write(name, builder, key)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        # Clocks are set back at times.
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=3650))

    def _write(self, name: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> None:
        certificate = builder.sign(self._key, hashes.SHA256())
        (self._folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(self._folder / f"{name}.key", key)


def _name(user: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(*form))


def _kubeconfig(folder: Path, name: str, server: str) -> str:
    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "datalayer", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "datalayer", "context": {"cluster": "datalayer", "user": name}}],
        "current-context": "datalayer",
    }
    # JSON is YAML.
    return json.dumps(config, indent=1)
