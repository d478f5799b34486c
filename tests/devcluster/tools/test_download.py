"""Official programs, from an HTTP server of the test's own that stands in for theirs."""

import hashlib
import io
import itertools
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from devcluster.tools.download import SETTING, Downloads
from devcluster.tools.modules import KUBERNETES, MODULES
from devcluster.tools.official import OFFICIAL, Official
from devcluster.tools.toolbox import CONTROL_PLANE, HELM, Toolbox, cache_folder
from tests.devcluster.tools.test_toolbox import FAKE_GO, program

HOST = "https://published.example"
SCRIPT = b"#!/bin/sh\necho official\n"


@dataclass
class Server:
    """HTTP server with some files; one that is `cut` ends in its middle."""

    files: dict[str, bytes]
    cut: str = ""
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.asked.append(f"{handler.command} {handler.path}")
        content = self.files.get(handler.path)
        if content is None:
            return handler.send_error(404)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if body:
            handler.wfile.write(content[:3] if handler.path == self.cut else content)
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server({})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            found.answer(self, body=False)

        def do_GET(self) -> None:
            found.answer(self, body=True)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        found.url = f"http://127.0.0.1:{http.server_port}"
        yield found
        http.shutdown()
        thread.join()


@dataclass
class Machine:
    """Toolbox of an empty machine whose Go writes programs without compiling, and what it said."""

    box: Toolbox
    said: io.StringIO
    builds: Path
    cache: Path

    def built(self) -> str:
        return self.builds.read_text() if self.builds.exists() else ""

    def left(self) -> list[str]:
        return sorted(
            path.name for path in self.cache.rglob("*") if path.is_file() and path.suffix != ".lock"
        )


def machine(tmp_path: Path, server: str, pins: dict[str, Official]) -> Machine:
    program(tmp_path / "bin" / "go", FAKE_GO)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:/bin",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "BUILDS": str(tmp_path / "builds"),
        SETTING: server,
    }
    said = io.StringIO()
    box = Toolbox(environment, Progress(said), pins=pins)
    return Machine(box, said, tmp_path / "builds", cache_folder(environment))


def archive(member: str, content: bytes) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def published(name: str, content: bytes = SCRIPT) -> Official:
    return Official(f"{HOST}/v1/{name}", hashlib.sha256(content).hexdigest())


def test_programs_with_the_right_sum_are_fetched_and_nothing_is_built(tmp_path: Path, server: Server) -> None:
    packed = archive("linux-amd64/helm", SCRIPT)
    server.files = {"/published.example/v1/etcd": SCRIPT, "/published.example/helm.tar.gz": packed}
    helm = Official(f"{HOST}/helm.tar.gz", hashlib.sha256(packed).hexdigest(), "linux-amd64/helm")
    here = machine(tmp_path, server.url, {"etcd": published("etcd"), "helm": helm})
    found = here.box.provide(("etcd",), HELM)
    assert [path.read_bytes() for path in found.values()] == [SCRIPT, SCRIPT]
    assert all(os.access(path, os.X_OK) for path in found.values())
    assert here.built() == ""
    assert here.left() == ["etcd", "helm"]
    assert "fetching etcd, helm from 127.0.0.1" in here.said.getvalue()
    asked = len(server.asked)
    assert here.box.provide(("etcd",), HELM) == found
    assert len(server.asked) == asked


def test_a_file_that_is_not_the_pinned_one_is_refused_by_name(tmp_path: Path, server: Server) -> None:
    server.files = {"/published.example/v1/etcd": b"#!/bin/sh\necho else\n"}
    here = machine(tmp_path, server.url, {"etcd": published("etcd")})
    with pytest.raises(
        ControlPlaneUnavailable,
        match=rf"published.example/v1/etcd is not the file.*{published('etcd').sha256}.*{SETTING}=none",
    ):
        here.box.provide(("etcd",))
    assert here.built() == ""
    assert here.left() == []


def test_where_nothing_answers_all_is_built_after_one_attempt(tmp_path: Path, server: Server) -> None:
    """The server answers, but not with a file: each attempt is seen. The programs are those of two modules."""
    names = (*CONTROL_PLANE, "helm", "containerd")
    here = machine(tmp_path, server.url, {name: published(name) for name in names})
    found = here.box.provide(CONTROL_PLANE, HELM, ("containerd",))
    assert all(path.is_file() for path in found.values())
    assert len(server.asked) == 1
    assert KUBERNETES.programs["helm"].package in here.built()
    assert "can't be had (Not Found), so no more is fetched" in here.said.getvalue()
    here.box.provide(("ctr",))
    assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_given_up_at_once(tmp_path: Path) -> None:
    here = machine(tmp_path, "http://127.0.0.1:1", {"etcd": published("etcd")})
    assert here.box.provide(("etcd",))["etcd"].is_file()
    assert "http://127.0.0.1:1/published.example/v1/etcd can't be had" in here.said.getvalue()


def test_what_is_not_published_is_built_beside_what_is(tmp_path: Path, server: Server) -> None:
    server.files = {"/published.example/v1/etcd": SCRIPT}
    here = machine(tmp_path, server.url, {"etcd": published("etcd"), "helm": published("helm")})
    found = here.box.provide(("etcd",), HELM)
    assert found["etcd"].read_bytes() == SCRIPT
    assert found["helm"].is_file()
    assert here.built().split()[-1] == KUBERNETES.programs["helm"].package


def test_a_transfer_that_ends_in_the_middle_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.files = {"/published.example/v1/etcd": SCRIPT}
    server.cut = "/published.example/v1/etcd"
    here = machine(tmp_path, server.url, {"etcd": published("etcd")})
    assert here.box.provide(("etcd",))["etcd"].read_bytes() != SCRIPT
    assert f"ended after 3 of {len(SCRIPT)} bytes" in here.said.getvalue()
    assert here.left() == ["etcd"]


def test_none_fetches_nothing(tmp_path: Path) -> None:
    here = machine(tmp_path, "none", {"etcd": published("etcd")})
    assert here.box.provide(("etcd",))["etcd"].is_file()
    assert "fetch" not in here.said.getvalue()
    assert "building etcd with Go" in here.said.getvalue()


def test_a_setting_that_is_no_http_server_fetches_nothing(tmp_path: Path) -> None:
    there = program(tmp_path / "files" / "published.example" / "v1" / "etcd", SCRIPT.decode())
    assert there.is_file()
    here = machine(tmp_path, f"file://{tmp_path / 'files'}", {"etcd": published("etcd")})
    assert here.box.provide(("etcd",))["etcd"].is_file()
    assert "can't be had (not an HTTP server), so no more is fetched" in here.said.getvalue()
    assert "building etcd with Go" in here.said.getvalue()


def test_a_transfer_that_takes_longer_than_a_build_is_given_up(tmp_path: Path, server: Server) -> None:
    server.files = {"/published.example/v1/etcd": SCRIPT}
    said = io.StringIO()
    minutes = itertools.count(0, 60).__next__
    downloads = Downloads({"etcd": published("etcd")}, {SETTING: server.url}, Progress(said), minutes)
    assert downloads.fetch(["etcd"], tmp_path) == set()
    assert "comes too slowly, 0 kB/s, so no more is fetched" in said.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_named_with_the_way_out(tmp_path: Path, server: Server) -> None:
    server.files = {"/published.example/v1/etcd": SCRIPT}
    downloads = Downloads({"etcd": published("etcd")}, {SETTING: server.url}, Progress(io.StringIO()))
    with pytest.raises(ControlPlaneUnavailable, match=r"gone.*XDG_CACHE_HOME"):
        downloads.fetch(["etcd"], tmp_path / "gone")


def test_official_programs_are_of_the_versions_that_are_built() -> None:
    pinned = {
        line.split()[0]: line.split()[1]
        for line in (KUBERNETES.folder / "go.mod").read_text().splitlines()
        if len(line.split()) >= 2
    }
    for programs in OFFICIAL.values():
        assert set(programs) == set(KUBERNETES.programs)
        for name, official in programs.items():
            module = max(
                (each for each in pinned if KUBERNETES.programs[name].package.startswith(each)), key=len
            )
            assert pinned[module] in official.url
            assert len(bytes.fromhex(official.sha256)) == 32
    sums = [official.sha256 for programs in OFFICIAL.values() for official in programs.values()]
    assert len(set(sums)) == len(sums)
    assert all(
        module is KUBERNETES or not set(module.programs) & set(OFFICIAL["x86_64"]) for module in MODULES
    )
