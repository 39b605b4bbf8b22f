"""``AlluxioAddress``: where Alluxio is, and under which names it knows a path of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from datalayer.addresses.location import Location
from datalayer.errors import ConfigError, InvalidKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from datalayer.config import HotConfig

_RPC_PORT = 19998
# Seen with 2.9.6: the proxy cuts a path at `?`, and takes a backslash for a slash. It would answer with another file's bytes.
_NOT_LITERAL = frozenset("?\\")
_FIRST_PRINTABLE = " "


class AlluxioAddress(NamedTuple):
    """What ``hot.url`` and ``hot.proxy`` name."""

    url: Location
    """``alluxio://master:19998/folder``."""
    proxy: str
    """``http://host:39999``."""
    bucket: str
    """The folder's first part: what the proxy's S3 side calls a bucket."""
    prefix: str
    """The rest of the folder."""

    @classmethod
    def of(cls, hot: HotConfig) -> AlluxioAddress:
        """Return the address that a configuration names.

        Raises:
            ConfigError: The url names no folder, or one that Alluxio's proxy cannot serve; or the proxy's URL names no host.
        """
        try:
            url = Location.parse(hot.url or "")
        except InvalidKeyError as error:
            raise ConfigError(f"hot.url: {error}") from error
        if url.scheme != "alluxio" or not url.path or not literal(url.path):
            raise ConfigError(
                f"hot.url: {hot.url!r} names no folder of Alluxio; write alluxio://master:19998/folder, the folder on which "
                "tiers.cold.url is mounted"
            )
        bucket, _, prefix = url.path.partition("/")
        address = cls(url, (hot.proxy or "").rstrip("/"), bucket, prefix)
        if not _names_hosts(lambda: address.masters or url.authority):
            raise ConfigError(f"hot.url: {hot.url!r} names no master; write alluxio://host:19998/folder")
        if not _names_hosts(lambda: address.proxy_parts.port != 0 and address.proxy_parts.hostname):
            raise ConfigError(f"hot.proxy: {hot.proxy!r} names no host; write http://host:39999")
        return address

    @property
    def proxy_parts(self) -> SplitResult:
        """The proxy's URL in its parts."""
        return urlsplit(self.proxy)

    @property
    def masters(self) -> list[tuple[str, int]]:
        """Host and port of each master; none where ZooKeeper has to be asked for them."""
        if self.url.authority.startswith("zk@"):
            return []
        parts = [urlsplit(f"//{one}") for one in self.url.authority.replace(";", ",").replace("+", ",").split(",")]
        return [(part.hostname, part.port or _RPC_PORT) for part in parts if part.hostname]

    @property
    def s3(self) -> str:
        """The endpoint of the proxy's S3 side."""
        return f"{self.proxy}/api/v1/s3"

    def key(self, path: str) -> str:
        """Return a path's key in the bucket."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def path(self, path: str) -> str:
        """Return a path as Alluxio names it, from its root."""
        return f"/{self.url.path}/{path}" if path else f"/{self.url.path}"

    def object_target(self, path: str) -> str:
        """Return what to ask the proxy's S3 side for, as it stands in a request."""
        return f"{self._base}/api/v1/s3/{quote(self.bucket, safe='')}/{quote(self.key(path))}"

    def verb_target(self, path: str, verb: str) -> str:
        """Return what to ask the proxy's REST side for, as it stands in a request."""
        return f"{self._base}/api/v1/paths/{quote(self.path(path), safe='')}/{verb}"

    @property
    def info_target(self) -> str:
        """What the proxy tells of itself under."""
        return f"{self._base}/api/v1/proxy/info"

    @property
    def _base(self) -> str:
        return self.proxy_parts.path


def _names_hosts(look: Callable[[], object]) -> bool:
    try:
        return bool(look())
    except ValueError:  # of a port that is no number
        return False


def literal(path: str) -> bool:
    """Whether Alluxio takes a path for what it is."""
    return _NOT_LITERAL.isdisjoint(path) and all(
        character >= _FIRST_PRINTABLE and character != "\x7f" for character in path
    )
