"""An HTTPS server that stands for the Kubernetes API server: it answers for one pod, with whatever a test wants, however awkward.

The real one is in tests/cluster; what it does not do on demand is done here.
"""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

TOKEN = "the-token"


class ApiStandIn:
    """Answers for the pod ``team-a/pod-1``; changing ``pod`` or ``trouble`` changes the next answer."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        key, certificate = folder / "key.pem", folder / "ca.crt"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
        subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        (folder / "token").write_text(f"{TOKEN}\n")
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)
        self.account = folder
        self.pod = running_pod()
        self.trouble: int | str | None = None
        """An HTTP status to refuse with; or ``hang``, ``close``, ``garbage``."""
        self.later: list[dict[str, Any]] = []
        """Answers for the next requests, before ``pod``."""
        self.asked: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was killed
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_asked(self, times: int) -> None:
        """Wait until it was asked so often."""
        deadline = time.monotonic() + 60
        while len(self.asked) < times:
            assert time.monotonic() < deadline, f"asked {len(self.asked)} times, not {times}"
            time.sleep(0.02)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in.asked.append(self.path)
                trouble = stand_in.trouble
                if trouble == "hang":
                    time.sleep(20)
                if trouble in {"hang", "close"}:
                    self.close_connection = True
                    return
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    trouble = 401
                if trouble == "garbage":
                    self._answer(200, b"<html>a proxy's page</html>")
                elif trouble is not None:
                    words = {"kind": "Status", "message": f'pods "pod-1" is forbidden or so ({trouble})'}
                    self._answer(int(trouble), json.dumps(words).encode())
                elif self.path.partition("?")[0] == "/api/v1/namespaces/team-a/pods/pod-1":
                    pod = stand_in.later.pop(0) if stand_in.later else stand_in.pod
                    self._answer(200, json.dumps(pod).encode())
                else:
                    self._answer(404, b'{"message": "not found"}')

            def _answer(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def running_pod(*, grace: int = 30, others: int = 0) -> dict[str, Any]:
    """A pod whose job runs, as the API server describes it."""
    names = ["base", *(f"other-{at}" for at in range(others))]
    return {
        "metadata": {"name": "pod-1", "namespace": "team-a", "uid": "uid-1"},
        "spec": {"terminationGracePeriodSeconds": grace, "containers": [{"name": name} for name in names]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": name, "state": {"running": {}}} for name in names],
        },
    }


def ended_pod(code: int = 0, reason: str = "", message: str = "", **rest: Any) -> dict[str, Any]:
    """A pod whose job has ended."""
    pod = running_pod(**rest)
    told = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "message": message}
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": told}
    return pod
