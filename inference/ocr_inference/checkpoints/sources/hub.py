"""What is asked of a hub over HTTP, by huggingface_hub's client: a repository's files at a revision, and their bytes.

A hub may be slow, broken or hostile. Answers are bounded in size and time, what can't be understood is an error,
and errors say whether to try again. The token goes to the hub alone and into no message; neither do addresses with
their queries, since those of a redirect can be signed.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx2
import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # exported lazily

from ocr_inference import __version__
from ocr_inference.checkpoints.sources import faults, selection
from ocr_inference.checkpoints.sources.cache import COMMIT
from ocr_inference.checkpoints.sources.retry_policy import RetryPolicy

MAX_API_BYTES: Final = 32 << 20
"""Of an answer that isn't a file: the listing of 10,000 files takes about 4 MB."""
MAX_ERROR_BYTES: Final = 1 << 20

_RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NONSENSE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError, httpx2.InvalidURL)
"""What the client makes of an answer that isn't one: it indexes and converts without looking."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")
_LIMIT: Final = "ocr_limit_bytes"
"""Where a request carries the most that its answer may have."""


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
    """The top folder's."""
    tree: Mapping[str, Mapping[str, str | int]] | None
    """All files, as huggingface_hub keeps them in its cache; None where the hub doesn't tell all of it."""


class HubError(Exception):
    """Error of a request to the hub; `retry` says whether a later one may succeed."""

    def __init__(
        self, message: str, *, retry: bool, retry_after_seconds: float | None = None, gone: bool = False
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.retry_after_seconds = retry_after_seconds
        self.gone = gone
        """The hub knows the repository and says that it has no such revision."""


@dataclass(frozen=True)
class Body:
    """Bytes of a file from `offset` on; 0 where the hub ignored the offset that was asked for."""

    offset: int
    chunks: Iterator[bytes]


class Hub:
    """Client of one hub. A context manager: leaving closes the connections."""

    def __init__(self, endpoint: str, token: str | None, policy: RetryPolicy) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.host = urlsplit(self.endpoint).hostname or "the hub"
        self._token = token
        self._policy = policy
        self._timeout = httpx2.Timeout(policy.idle_timeout_seconds, connect=policy.connect_seconds)

    def __enter__(self) -> Self:
        for name in ("httpx2", "httpcore2"):
            # They log whole addresses, those with signatures, too.
            logging.getLogger(name).setLevel(logging.WARNING)
        huggingface_hub.set_client_factory(self._client)
        self._files = self._client()
        return self

    def __exit__(self, *_: object) -> None:
        huggingface_hub.close_session()
        self._files.close()

    def listing(self, repo: str, revision: str) -> Listing:
        """Return the files of a repository at a revision, and the commit that this is now."""
        api = huggingface_hub.HfApi(
            endpoint=self.endpoint,
            token=self._token or False,
            library_name="ocr-operator",
            library_version=__version__,
        )
        with self._errors(f"repository {repo} at {self.host}, revision {faults.shown(revision)}"):
            try:
                info = api.model_info(
                    repo, revision=revision, files_metadata=True, timeout=self._policy.idle_timeout_seconds
                )
                return _listing(info)
            except _NONSENSE as error:
                what = f"{self.host} answers nonsense about {repo}: {type(error).__name__}: {faults.shown(str(error))}"
                raise HubError(what, retry=False) from error

    @contextmanager
    def open(self, repo: str, commit: str, file: RemoteFile, offset: int) -> Iterator[Body]:
        """Open a file of a commit, from `offset` (less than its size) on."""
        url = huggingface_hub.hf_hub_url(repo, file.name, revision=commit, endpoint=self.endpoint)
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        if offset:
            headers["range"] = f"bytes={offset}-"
        what = f"{file.name} of {repo} at {self.host}"
        request = {"headers": headers, "timeout": self._timeout, "extensions": {_LIMIT: file.size + 1}}
        with (
            self._errors(what),
            self._files.stream("GET", url, **request) as response,  # type: ignore[arg-type]
        ):
            try:
                hf_raise_for_status(response)
            except _NONSENSE as error:
                raise HubError(
                    f"{what}: the hub answers {response.status_code}, with nonsense", retry=True
                ) from error
            yield Body(_offset(response, file, commit, offset), response.iter_bytes())

    def _client(self) -> httpx2.Client:
        headers = {"accept-encoding": "identity", "user-agent": f"ocr-operator/{__version__}"}
        hooks = {"response": [self._guard]}
        return httpx2.Client(follow_redirects=True, headers=headers, event_hooks=hooks, timeout=self._timeout)

    def _guard(self, response: httpx2.Response) -> None:
        """Limit an answer before any of it is read."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx2.RemoteProtocolError("the answer is compressed, which was not asked for")
        limit = response.request.extensions.get(_LIMIT, MAX_API_BYTES)
        if response.status_code >= 300:
            limit = MAX_ERROR_BYTES
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Bounded(response.stream, limit, self._policy)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except HfHubHTTPError as error:
            raise self._refused(what, error) from error
        except httpx2.HTTPError as error:
            text = faults.shown(str(error)) or type(error).__name__
            raise HubError(f"{what}: {text}", retry=True) from error

    def _refused(self, what: str, error: HfHubHTTPError) -> HubError:
        status = error.response.status_code
        said = faults.shown(error.server_message or "")
        if isinstance(error, RevisionNotFoundError):
            return HubError(f"{what}: there is no such revision", retry=False, gone=True)
        if isinstance(error, GatedRepoError):
            return HubError(
                f"{what}: access is granted on request; set HF_TOKEN to one that has it", retry=False
            )
        if isinstance(error, RepositoryNotFoundError) or status in {401, 403, 404}:
            token = "HF_TOKEN may not read it" if self._token else "it is private and HF_TOKEN is not set"
            return HubError(f"{what}: refused ({status}): it doesn't exist, or {token}", retry=False)
        message = f"{what}: the hub answers {status}{f' ({said})' if said else ''}"
        return HubError(
            message, retry=status in _RETRY_STATUSES, retry_after_seconds=_retry_after(error.response)
        )


class _Bounded(httpx2.SyncByteStream):
    """Body that breaks off when it is longer than it may be, or slower."""

    def __init__(self, body: httpx2.SyncByteStream, limit: int, policy: RetryPolicy) -> None:
        self._body = body
        self._limit = limit
        self._policy = policy

    def __iter__(self) -> Iterator[bytes]:
        policy, total = self._policy, 0
        since, gained = policy.now(), 0
        for chunk in self._body:
            total, gained = total + len(chunk), gained + len(chunk)
            if total > self._limit:
                raise httpx2.RemoteProtocolError(f"the answer is longer than {self._limit} bytes")
            seconds = policy.now() - since
            if seconds >= policy.idle_timeout_seconds:
                if gained < seconds * policy.floor_bytes_per_second:
                    raise httpx2.ReadTimeout(f"only {gained} bytes in {seconds:.0f} seconds")
                since, gained = policy.now(), 0
            yield chunk

    def close(self) -> None:
        self._body.close()


def _listing(info: huggingface_hub.ModelInfo) -> Listing:
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise ValueError("no commit")
    siblings: list[Any] = info.siblings or []
    if len(siblings) > selection.MAX_FILES:
        raise ValueError("too many files")
    found = (_file(each) for each in siblings if selection.is_plain(each.rfilename))
    return Listing(info.sha, {file.name: file for file in found if file is not None}, _tree(siblings))


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
    """Return a file of a listing; None where the hub doesn't give its size or hash: nothing could be verified."""
    lfs = sibling.lfs
    size = lfs["size"] if lfs else sibling.size
    digest = f"sha256:{lfs['sha256']}" if lfs else f"git:{sibling.blob_id}"
    known = isinstance(size, int) and size >= 0 and _DIGEST.fullmatch(digest)
    return RemoteFile(sibling.rfilename, size, digest) if known else None


def _offset(response: httpx2.Response, file: RemoteFile, commit: str, asked: int) -> int:
    """Return the offset at which the body begins; raises where the answer is for another commit, size or offset."""
    first = (response.history or [response])[0]
    if first.headers.get("x-repo-commit", commit) != commit:
        raise httpx2.RemoteProtocolError("the answer is of another commit")
    if response.status_code == 206:
        if response.headers.get("content-range") != f"bytes {asked}-{file.size - 1}/{file.size}":
            raise httpx2.RemoteProtocolError(f"not the range asked for, or the size is not {file.size}")
        return asked
    if response.headers.get("content-length", str(file.size)) != str(file.size):
        raise httpx2.RemoteProtocolError(f"the size is not {file.size} as listed")
    return 0


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
