"""What is asked of a hub over HTTP, by huggingface_hub's client: a repository's files at a revision, and their bytes.

A hub may be slow, broken or hostile. Answers are bounded in size and time, what can't be understood is an error,
and errors say whether to try again. The token goes to the hub alone and into no message; neither do addresses with
their queries, since those of a redirect can be signed.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self
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
from ocr_inference.checkpoints.sources import faults, listing, way_out
from ocr_inference.checkpoints.sources.listing import Listing, RemoteFile
from ocr_inference.checkpoints.sources.retry_policy import RetryPolicy
from ocr_wire import numbers

MAX_API_BYTES: Final = 32 << 20
"""Of an answer that isn't a file: the listing of 10,000 files takes about 4 MB."""
MAX_ERROR_BYTES: Final = 1 << 20

_RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NONSENSE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError, httpx2.InvalidURL)
"""What the client makes of an answer that isn't one: it indexes and converts without looking."""
_LIMIT: Final = "ocr_limit_bytes"
"""Where a request carries the most that its answer may have."""


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
        try:
            self._files = self._client()
        except (ValueError, OSError, ImportError, httpx2.InvalidURL) as error:
            # What is wrong isn't repeated: of an address that can't be read, a password may be taken for the port.
            what = f"no client for {self.host} ({type(error).__name__})"
            raise faults.unavailable(f"{what}: {way_out.fault(os.environ) or way_out.VARIABLES}") from None
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
                return listing.of(info)
            except _NONSENSE as error:
                what = f"{self.host} answers nonsense about {repo}: {type(error).__name__}: {faults.shown(str(error))}"
                raise HubError(what, retry=False) from error

    def measure(self, repo: str, commit: str, name: str) -> RemoteFile:
        """Ask for the size and the hash of a file that the listing names only, as the hub's own client does."""
        url = huggingface_hub.hf_hub_url(repo, name, revision=commit, endpoint=self.endpoint)
        what = f"{name} of {repo} at {self.host}"
        with self._errors(what):
            response = self._files.head(url, headers=self._authorization())
            try:
                hf_raise_for_status(response)
                return listing.measured(
                    [each.headers for each in (*response.history, response)], name, commit
                )
            except _NONSENSE as error:
                raise HubError(
                    f"{what}: neither its listing nor the file's own answer says its size and hash, so nothing could be"
                    " verified: set HF_ENDPOINT to another mirror, or mount the files (source.path)",
                    retry=False,
                ) from error

    @contextmanager
    def open(self, repo: str, commit: str, file: RemoteFile, offset: int) -> Iterator[Body]:
        """Open a file of a commit, from `offset` (less than its size) on."""
        url = huggingface_hub.hf_hub_url(repo, file.name, revision=commit, endpoint=self.endpoint)
        headers = self._authorization()
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

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

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
            hint = _hint(error, text)
            message = f"{what}: {text}" if hint is None else f"{what}: {text}: {hint}"
            raise HubError(message, retry=hint is None) from error

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


def _hint(error: httpx2.HTTPError, text: str) -> str | None:
    """Return what helps against an error that stays as it is until the settings change; None for others."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "set SSL_CERT_FILE to a file with the authorities that are trusted, this one's among them"
    if isinstance(error, httpx2.ProxyError):
        return "it is what the proxy answers: see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY"
    return None


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
    return numbers.whole(response.headers.get("retry-after", "").strip(), 0, 99_999)
