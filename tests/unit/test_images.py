"""docker/ is for people who do not run the tests: what it pins is what is tested."""

from __future__ import annotations

from tests.services.alluxio_jars import IMAGE
from tests.services.s3server import VERSITYGW


def test_the_s3_image_holds_the_server_of_the_tests() -> None:
    assert f"ARG VERSITYGW={VERSITYGW}\n" in (IMAGE.parent / "s3" / "Dockerfile").read_text()
