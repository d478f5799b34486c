"""A stand-in for a model hub: the part of its HTTP interface that clients download by, on loopback, with faults.

Faithful where clients look: model info with sizes and hashes, the tree of a commit, error codes in headers, small
files from the hub itself (ETag is git's hash), large ones by a redirect to a second origin that must never see the
token, ranges, and the commit in every answer. huggingface_hub's own `snapshot_download` works with it.
"""

import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

SIGNATURE = "X-Amz-Signature=0123456789abcdef"
"""In the addresses of large files, as a signed address has it: not to be seen in logs and errors."""


@dataclass(frozen=True)
class Status:
    """Answer with this status instead."""

    status: int
    retry_after: int | None = None
    message: str = "the stand-in was told to"


@dataclass(frozen=True)
class Nonsense:
    """Answer with these bytes instead."""

    data: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Break the connection after so many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Claim:
    """Say this size, and send so much of the body: less or more than there is."""

    length: int


@dataclass(frozen=True)
class Corrupt:
    """Send other bytes, as many."""


@dataclass(frozen=True)
class Whole:
    """Ignore the range that was asked for."""


@dataclass(frozen=True)
class Endless:
    """Send without an end and without a size."""


@dataclass(frozen=True)
class Stall:
    """Send so many bytes, then one at a time, with a pause before each."""

    after: int
    seconds: float


@dataclass(frozen=True)
class Hold:
    """Send so many bytes, then wait for `free` before the rest."""

    after: int
    free: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


Fault = Status | Nonsense | Cut | Claim | Corrupt | Whole | Endless | Stall | Hold


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    """Of large files at the second origin: `/cdn/<name>`."""
    range: str | None
    token: str | None


@dataclass
class _Repo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False


class Hub:
    """Repositories, faults and what was asked for. Written by the test, read by the server's threads."""

    def __init__(self, url: str, cdn: str) -> None:
        self.url = url
        self.cdn = cdn
        self.large = 1024
        """From this size on, and for weights, files are stored as LFS objects."""
        self.seen: list[Seen] = []
        self.lists_names_only = False
        """Whether listings have neither sizes nor hashes, as those of some mirrors."""
        self.tags = True
        """Whether answers with a file say its hash."""
        self.listed: dict[str, dict[str, Any]] = {}
        """Lies in the listing: file → fields of its entry."""
        self._repos: dict[str, _Repo] = {}
        self._faults: dict[str, list[Fault]] = {}

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes],
        branch: str = "main",
        *,
        token: str | None = None,
        gated: bool = False,
    ) -> str:
        """Commit these files; the branch stands for it from now on. Returns the commit."""
        found = self._repos.setdefault(repo, _Repo())
        text = repr(sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items()))
        commit = hashlib.sha1(text.encode()).hexdigest()
        found.commits[commit] = dict(files)
        found.branches[branch] = commit
        found.token, found.gated = token, gated
        return commit

    def forget(self, repo: str, branch: str) -> None:
        del self._repos[repo].branches[branch]

    def fail(self, what: str, *faults: Fault) -> None:
        """The next requests for this file (or `info`) go wrong, one after the other; then they go well again."""
        self._faults[what] = [*self._faults.get(what, []), *faults]

    def heal(self) -> None:
        self._faults.clear()
        self.listed.clear()

    def asked(self, part: str) -> list[Seen]:
        """Requests whose path has this part."""
        return [each for each in self.seen if part in each.path]

    def fault(self, what: str) -> Fault | None:
        pending = self._faults.get(what)
        return pending.pop(0) if pending else None

    def find(self, repo: str, revision: str) -> tuple[_Repo | None, str | None]:
        found = self._repos.get(repo)
        if found is None:
            return None, None
        commit = found.branches.get(revision, revision)
        return found, commit if commit in found.commits else None

    def is_large(self, name: str, data: bytes) -> bool:
        return name.endswith(".safetensors") or len(data) >= self.large

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        """A file in a listing, as the tree has it."""
        lfs = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        large = {"lfs": lfs} if self.is_large(name, data) else {}
        entry = {"type": "file", "path": name, "size": len(data), "oid": git_hash(data), **large}
        return entry | self.listed.get(name, {})

    def object(self, digest: str) -> tuple[str, bytes] | None:
        """Name and content of a large file."""
        for repo in self._repos.values():
            for files in repo.commits.values():
                for name, data in files.items():
                    if sha256(data) == digest:
                        return name, data
        return None


@lru_cache(16)
def sha256(data: bytes) -> str:
    """Once for each file, however often it is asked for: some have gigabytes."""
    return hashlib.sha256(data).hexdigest()


@lru_cache(16)
def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Hub]:
    """A hub on two ports of loopback, which are two origins, until the block ends; with TLS if there is a certificate,
    whose key lies beside it."""
    front, back = _Server(("127.0.0.1", 0), _Front), _Server(("127.0.0.1", 0), _Back)
    scheme = "http"
    if certificate is not None:
        scheme = "https"
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, f"{certificate}.key")
        for server in (front, back):
            server.socket = tls.wrap_socket(server.socket, server_side=True)
    hub = Hub(f"{scheme}://127.0.0.1:{front.server_port}", f"{scheme}://127.0.0.1:{back.server_port}")
    threads = []
    for server in (front, back):
        server.hub = hub
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        threads.append(thread)
    try:
        yield hub
    finally:
        for server in (front, back):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    error_codes: ClassVar = {"repo": "RepoNotFound", "revision": "RevisionNotFound", "entry": "EntryNotFound"}

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests look at `Hub.seen`."""

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        raise NotImplementedError

    def note(self, path: str) -> None:
        authorization = self.headers.get("authorization", "")
        token = authorization.removeprefix("Bearer ") or None
        self.server.hub.seen.append(Seen(self.command, path, self.headers.get("range"), token))

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.body(json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers})

    def refuse(self, status: int, code: str, message: str) -> None:
        self.json({"error": message}, status, **{"X-Error-Code": code, "X-Error-Message": message})

    def failing(self, fault: Fault | None) -> bool:
        if isinstance(fault, Nonsense):
            self.body(fault.data, fault.status, fault.headers)
            return True
        if not isinstance(fault, Status):
            return False
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        self.json({"error": fault.message}, fault.status, **headers)
        return True

    def body(self, data: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def file(self, data: bytes, fault: Fault | None, headers: dict[str, str]) -> None:
        """A file's content, or the part that was asked for, with what goes wrong on the way."""
        begin, status, whole = 0, 200, len(data)
        asked = self.headers.get("range", "")
        if asked.startswith("bytes=") and not isinstance(fault, Whole):
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
            if begin >= whole:
                self.body(b"", 416, {"Content-Range": f"bytes */{whole}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{whole - 1}/{whole}"
        data = data[begin:]
        match fault:
            case Corrupt():
                data = bytes(byte ^ 0xFF for byte in data)
            case Claim(length):
                data = (data + b"\0" * length)[:length]
        self.send_response(status)
        if not isinstance(fault, Endless):
            headers = {"Content-Length": str(len(data)), "Accept-Ranges": "bytes", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.send(data, fault)

    def send(self, data: bytes, fault: Fault | None) -> None:
        match fault:
            case Cut(after):
                self.wfile.write(data[:after])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case Stall(after, seconds):
                self.wfile.write(data[:after])
                for byte in data[after:]:
                    time.sleep(seconds)
                    self.wfile.write(bytes([byte]))
            case Hold(after, free, reached):
                self.wfile.write(data[:after])
                reached.set()
                free.wait(60)
                self.wfile.write(data[after:])
            case Endless():
                self.close_connection = True
                while True:
                    self.wfile.write(data)
            case _:
                self.wfile.write(data)


class _Front(_Handler):
    """The hub itself: listings, small files, and redirects for large ones."""

    def respond(self) -> None:
        split = urlsplit(self.path)
        parts = [unquote(part) for part in split.path.strip("/").split("/")]
        self.note(split.path)
        match parts:
            case ["api", "models", owner, name, "revision", revision]:
                self.info(f"{owner}/{name}", revision, blobs="blobs" in parse_qs(split.query))
            case ["api", "models", owner, name, "tree", revision, *_]:
                self.tree(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, *path]:
                self.resolve(f"{owner}/{name}", revision, "/".join(path))
            case _:
                self.refuse(404, "NotFound", "there is nothing here")

    def allowed(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and its files, or an answer that says why not."""
        found, commit = self.server.hub.find(repo, revision)
        authorized = found is not None and (
            found.token is None or self.headers.get("authorization") == f"Bearer {found.token}"
        )
        if found is None or not authorized:
            # As the hub: strangers aren't told whether it exists.
            self.refuse(401, "RepoNotFound", "Repository not found")
        elif found.gated:
            self.refuse(403, "GatedRepo", f"Access to model {repo} is restricted")
        elif commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return commit, found.commits[commit]
        return None

    def info(self, repo: str, revision: str, *, blobs: bool) -> None:
        hub = self.server.hub
        if self.failing(hub.fault("info")) or (found := self.allowed(repo, revision)) is None:
            return
        commit, files = found
        siblings = []
        for name, data in files.items():
            entry = hub.entry(name, data)
            sibling = {"rfilename": entry["path"]}
            if blobs and not hub.lists_names_only:
                sibling |= {"size": entry["size"], "blobId": entry["oid"]}
                if lfs := entry.get("lfs"):
                    sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": 134}
            siblings.append(sibling)
        self.json(
            {"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings, "tags": []}
        )

    def tree(self, repo: str, revision: str) -> None:
        if (found := self.allowed(repo, revision)) is not None:
            self.json([self.server.hub.entry(name, data) for name, data in found[1].items()])

    def resolve(self, repo: str, revision: str, name: str) -> None:
        hub = self.server.hub
        if (found := self.allowed(repo, revision)) is None:
            return
        commit, files = found
        if name not in files:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        data = files[name]
        if not hub.is_large(name, data):
            fault = hub.fault(name)
            if not self.failing(fault):
                tag = {"ETag": f'"{git_hash(data)}"'} if hub.tags else {}
                self.file(data, fault, {**tag, "X-Repo-Commit": commit})
            return
        digest = sha256(data)
        headers = {
            "Location": f"{hub.cdn}/cdn/{name}?digest={digest}&{SIGNATURE}",
            "X-Repo-Commit": commit,
        }
        if hub.tags:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self.body(b"", 302, headers)


class _Back(_Handler):
    """Where large files lie: another origin."""

    def respond(self) -> None:
        split = urlsplit(self.path)
        self.note(split.path)
        found = self.server.hub.object(parse_qs(split.query).get("digest", [""])[0])
        if found is None:
            self.refuse(404, "NotFound", "no such object")
            return
        name, data = found
        fault = self.server.hub.fault(name)
        if not self.failing(fault):
            self.file(data, fault, {"ETag": f'"{sha256(data)}"'} if self.server.hub.tags else {})


# --- checkpoints ----------------------------------------------------------------------------------------------


def safetensors(**tensors: bytes) -> bytes:
    """A file with these tensors of bytes."""
    header: dict[str, Any] = {}
    at = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(tensors.values())


def checkpoint(size: int = 100_000, **more: bytes) -> dict[str, bytes]:
    """Files that pass for a checkpoint, with weights of `size` bytes; keywords add files (`_` stands for a point)."""
    weights = hashlib.shake_256(b"weights").digest(size)
    files = {
        "config.json": b'{"model_type": "tiny"}',
        "tokenizer.json": b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}}}',
        "model.safetensors": safetensors(weights=weights),
    }
    return files | {name.replace("_", "."): data for name, data in more.items()}


def sharded(sizes: tuple[int, ...] = (50_000, 60_000)) -> dict[str, bytes]:
    """The same in several files with an index."""
    files = checkpoint()
    del files["model.safetensors"]
    index = {}
    for number, size in enumerate(sizes, 1):
        name = f"model-{number:05}-of-{len(sizes):05}.safetensors"
        files[name] = safetensors(**{f"part{number}": hashlib.shake_256(b"%d" % number).digest(size)})
        index[f"part{number}"] = name
    files["model.safetensors.index.json"] = json.dumps(
        {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
    ).encode()
    return files
