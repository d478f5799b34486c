"""A file in the making: continued, verified, named only when it is right."""

import hashlib
from pathlib import Path

import pytest

from ocr_inference.checkpoints.sources.part import Part, verified
from tests.support.hub import git_hash

DATA = b"some bytes of a file"
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()
GIT = "git:" + git_hash(DATA)


@pytest.mark.parametrize("digest", [SHA256, GIT])
def test_what_came_is_kept_and_continued(tmp_path: Path, digest: str) -> None:
    path = tmp_path / "x.part"
    with Part(path, len(DATA), digest) as part:
        part.write(DATA[:7])
        assert not part.verified()
    with Part(path, len(DATA), digest) as part:
        assert part.size == 7
        part.write(DATA[7:])
        assert part.verified()
        part.keep(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert not path.exists()


@pytest.mark.parametrize("digest", [SHA256, GIT])
def test_other_bytes_are_not_verified_and_can_be_begun_anew(tmp_path: Path, digest: str) -> None:
    with Part(tmp_path / "x.part", len(DATA), digest) as part:
        part.write(DATA[:-1] + b"!")
        assert not part.verified()
        part.clear()
        assert part.size == 0
        part.write(DATA)
        assert part.verified()


def test_more_than_there_can_be_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(DATA + b"more")
    with Part(tmp_path / "x.part", len(DATA), SHA256) as part:
        assert part.size == 0


@pytest.mark.parametrize("digest", [SHA256, GIT])
def test_a_whole_file_is_verified(tmp_path: Path, digest: str) -> None:
    path = tmp_path / "x"
    assert not verified(path, len(DATA), digest)
    path.write_bytes(DATA)
    assert verified(path, len(DATA), digest)
    assert not verified(path, len(DATA) + 1, digest)
    path.write_bytes(DATA[:-1] + b"!")
    assert not verified(path, len(DATA), digest)
