"""What a hub says of the files of a commit: names, and what their content is verified by."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ocr_inference.checkpoints.sources import selection
from ocr_inference.checkpoints.sources.cache import COMMIT
from ocr_wire import numbers

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")
_MOST_GIT_BYTES: Final = 10 << 20
"""Larger files are stored as LFS objects by the hub's own rule."""
_MOST_BYTES: Final = 1 << 50


@dataclass(frozen=True)
class RemoteFile:
    name: str
    size: int
    digest: str
    """`sha256:` of the content, or `git:` and the SHA-1 that git gives it."""


@dataclass(frozen=True)
class Listing:
    commit: str
    files: Mapping[str, RemoteFile]
    """The top folder's, as far as their sizes and hashes are listed."""
    unmeasured: frozenset[str]
    """Other files of the top folder: some mirrors list names alone."""
    tree: Mapping[str, Mapping[str, str | int]] | None
    """All files, as huggingface_hub keeps them in its cache; None where the hub doesn't tell all of it."""


def of(info: Any) -> Listing:
    """Return the files of a hub's answer (`huggingface_hub.ModelInfo`); raises what nonsense in it raises."""
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise ValueError("no commit")
    siblings: list[Any] = info.siblings or []
    if len(siblings) > selection.MAX_FILES:
        raise ValueError("too many files")
    plain = [each for each in siblings if selection.is_plain(each.rfilename)]
    unmeasured = frozenset(each.rfilename for each in plain if _is_unmeasured(each))
    found = (_file(each) for each in plain if each.rfilename not in unmeasured)
    files = {file.name: file for file in found if file is not None}
    return Listing(info.sha, files, unmeasured, _tree(siblings))


def _is_unmeasured(sibling: Any) -> bool:
    """Return whether size or hash of a file are missing. Of weights and of what is too large for git, its hash is that
    of a pointer to them."""
    if sibling.lfs:
        return False
    if sibling.size is None or sibling.blob_id is None:
        return True
    most = selection.limit(sibling.rfilename)
    large = isinstance(sibling.size, int) and sibling.size > _MOST_GIT_BYTES
    return (large and (most is None or sibling.size <= most)) or sibling.rfilename.endswith(selection.WEIGHTS)


def measured(answers: Sequence[Mapping[str, str]], name: str, commit: str) -> RemoteFile:
    """Return what the headers of the answers to one request, redirects first, say of a file; raises `ValueError` where
    they don't."""
    if answers[0].get("x-repo-commit", commit) != commit:
        raise ValueError("another commit")
    linked = next((each for each in answers if "x-linked-etag" in each), None)
    if linked is not None:
        tag, length = (
            linked["x-linked-etag"],
            linked.get("x-linked-size") or answers[-1].get("content-length", ""),
        )
    else:
        tag, length = answers[-1].get("etag", ""), answers[-1].get("content-length", "")
    found = tag.removeprefix("W/").strip('"')
    digest = f"{'sha256' if len(found) == 64 else 'git'}:{found}"
    size = numbers.whole(length, 0, _MOST_BYTES)
    if size is None or not _DIGEST.fullmatch(digest):
        raise ValueError("no size and hash")
    return RemoteFile(name, size, digest)


def _tree(siblings: Sequence[Any]) -> Mapping[str, Mapping[str, str | int]] | None:
    tree: dict[str, dict[str, str | int]] = {}
    for each in siblings:
        if not isinstance(each.size, int) or not isinstance(each.blob_id, str):
            return None
        tree[each.rfilename] = {"size": each.size, "blob_id": each.blob_id}
        if each.lfs:
            tree[each.rfilename] |= {"lfs_sha256": each.lfs["sha256"], "lfs_size": each.lfs["size"]}
    return tree


def _file(sibling: Any) -> RemoteFile | None:
    """Return a file of a listing; None where its size or hash is none: nothing could be verified."""
    lfs = sibling.lfs
    size = lfs["size"] if lfs else sibling.size
    digest = f"sha256:{lfs['sha256']}" if lfs else f"git:{sibling.blob_id}"
    known = isinstance(size, int) and size >= 0 and _DIGEST.fullmatch(digest)
    return RemoteFile(sibling.rfilename, size, digest) if known else None
