"""Checksums of files and of their blocks."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalayer.stores import checksum
from datalayer.stores.checksum import Crc32c, parse_blocks, parse_checksum


@given(st.binary(max_size=400), st.lists(st.integers(1, 90), max_size=12))
def test_each_block_has_the_checksum_of_its_bytes_however_they_come(data: bytes, cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksum, "BLOCK", 64)
        crc, at = Crc32c(), 0
        for cut in cuts:
            crc.update(data[at : at + cut])
            at += cut
        crc.update(data[at:])
        assert crc.length == len(data)
        assert parse_checksum(crc.text()) == google_crc32c.value(data)
        blocks = tuple(google_crc32c.value(data[start : start + 64]) for start in range(0, len(data), 64))
        text = crc.blocks()
        assert (text is None) == (len(data) <= 64)
        if text is not None:
            assert parse_blocks(text, len(data)) == blocks


def test_checksums_that_are_no_checksums() -> None:
    assert parse_checksum(None) is None
    assert parse_checksum("sha256:00") is None
    assert parse_checksum("crc32c:xyz") is None
    assert parse_blocks("0" * 8, checksum.BLOCK + 1) is None
    assert parse_blocks("0" * 17, 2 * checksum.BLOCK) is None
    assert parse_blocks("g" * 16, 2 * checksum.BLOCK) is None
    assert parse_blocks("0" * 16, 2 * checksum.BLOCK) == (0, 0)
