"""Digests are SHA-256 as everybody else computes it: names of kept runs depend on each digit."""

from pathlib import Path

import pytest

from mome.files.hashing import file_sha256, text_sha256

# of the three bytes "abc", from FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digests_are_those_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == text_sha256("abc") == ABC
    assert text_sha256("abc", 16) == ABC[:16]


def test_a_text_is_hashed_in_utf_8(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("Zürich 東京".encode())
    assert text_sha256("Zürich 東京") == file_sha256(tmp_path / "text")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        file_sha256(tmp_path / "missing")
