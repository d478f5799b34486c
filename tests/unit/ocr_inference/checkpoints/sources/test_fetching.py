"""Downloads from a stand-in hub: complete and verified, continued after faults, or an error that says what to do."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ocr_inference.checkpoints import sources
from ocr_inference.checkpoints.sources.retry_policy import RetryPolicy
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, ModelSpec, Progress
from tests.support import hub as hubs
from tests.support import marks

TOKEN = "hf_secret_token"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub() -> Iterator[hubs.Hub]:
    with hubs.serving() as hub:
        yield hub


@dataclass
class Fetcher:
    """What a worker does, with a clock that doesn't wait."""

    hub: hubs.Hub
    cache: Path
    reported: list[Progress] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    token: str | None = None
    more: dict[str, str] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)

    def fetch(self, revision: str | None = None, repo: str = "owner/name") -> sources.Checkpoint:
        spec = ModelSpec(name="m", engine="transformers", repo=repo, revision=revision)
        environ = {
            "HF_ENDPOINT": self.hub.url,
            **({"HF_TOKEN": self.token} if self.token else {}),
            **self.more,
        }
        policy = replace(RetryPolicy(sleep=self.slept.append), **self.policy)
        return sources.fetch(spec, self.cache, self.reported.append, environ, policy)

    def fail(self, revision: str | None = None) -> Failure:
        with pytest.raises(EngineError) as caught:
            self.fetch(revision)
        failure = caught.value.failure
        assert TOKEN not in failure.message
        assert hubs.SIGNATURE not in failure.message
        return failure

    def left(self) -> dict[str, int]:
        """Files of the cache with their sizes, apart from locks."""
        files = (path for path in self.cache.rglob("*") if path.is_file() and path.suffix != ".lock")
        return {
            str(path.relative_to(self.cache / "hub" / "models--owner--name")): path.stat().st_size
            for path in files
        }


@pytest.fixture
def fetcher(hub: hubs.Hub, tmp_path: Path) -> Fetcher:
    return Fetcher(hub, tmp_path)


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("files", [hubs.checkpoint(), hubs.sharded()], ids=["single", "sharded"])
def test_a_checkpoint_comes_whole(fetcher: Fetcher, files: Mapping[str, bytes]) -> None:
    commit = fetcher.hub.add("owner/name", files)
    checkpoint = fetcher.fetch()
    assert checkpoint.folder == fetcher.cache / "hub" / "models--owner--name" / "snapshots" / commit
    assert (checkpoint.revision, checkpoint.key) == (commit, commit)
    assert files_of(checkpoint.folder) == files
    last = [each for each in fetcher.reported if each.phase == "downloading"][-1]
    total = sum(map(len, files.values()))
    assert (last.done_bytes, last.total_bytes, last.files, last.revision) == (
        total,
        total,
        len(files),
        commit,
    )
    done = [each.done_bytes for each in fetcher.reported if each.phase == "downloading"]
    assert done == sorted(done)


def test_only_what_is_wanted_is_asked_for(fetcher: Fetcher) -> None:
    unwanted = {
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"import os",
        "README.md": b"text",
        "consolidated.safetensors": hubs.safetensors(a=b"x"),
        "runs/events": b"log",
        "sub/model.safetensors": b"x",
    }
    fetcher.hub.add("owner/name", {**hubs.checkpoint(), **unwanted})
    assert set(files_of(fetcher.fetch().folder)) == set(hubs.checkpoint())
    for name in unwanted:
        assert fetcher.hub.asked(name) == []


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    fetcher: Fetcher, caplog: pytest.LogCaptureFixture
) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint(), token=TOKEN)
    refused = fetcher.fail()
    assert refused.kind is FailureKind.SOURCE_UNAVAILABLE
    assert "HF_TOKEN is not set" in refused.message
    fetcher.token = TOKEN
    with caplog.at_level("DEBUG"):
        fetcher.fetch()
    assert {each.token for each in fetcher.hub.asked("/cdn/")} == {None}
    assert {each.token for each in fetcher.hub.seen if "/cdn/" not in each.path} == {None, TOKEN}
    assert TOKEN not in caplog.text
    assert hubs.SIGNATURE not in caplog.text


@pytest.mark.parametrize("raw", ["{}\n", "\ufeff{}\r\n", " \t{} "])
def test_a_token_is_taken_as_people_leave_it(fetcher: Fetcher, raw: str) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint(), token=TOKEN)
    fetcher.token = raw.format(TOKEN)
    fetcher.fetch()
    assert {each.token for each in fetcher.hub.seen} == {None, TOKEN}


@pytest.mark.parametrize("raw", ["{}é", "{}\nX: y", "\x01{}"])
def test_a_token_that_no_header_takes_is_named_and_not_quoted(fetcher: Fetcher, raw: str) -> None:
    secret = marks.mark()
    fetcher.token = raw.format(secret)
    with pytest.raises(EngineError) as failed:
        fetcher.fetch()
    assert failed.value.failure.param == "HF_TOKEN"
    assert "HF_TOKEN has a character that can't be in a header" in failed.value.failure.message
    assert not marks.leaks(repr(failed.value.failure), secret)


@pytest.mark.parametrize(
    "proxy", ["http://eve:{}/x@127.0.0.1:9", "ftp://eve:{}@127.0.0.1:9", "http://eve:{}@127.0.0.1:9"]
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    fetcher: Fetcher, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = marks.mark()
    monkeypatch.setenv("HTTP_PROXY", proxy.format(secret))
    monkeypatch.setenv("http_proxy", proxy.format(secret))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    fetcher.hub.add("owner/name", hubs.checkpoint())
    with pytest.raises(EngineError) as failed:
        fetcher.fetch()
    assert failed.value.failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert not marks.leaks(repr(failed.value.failure), secret)


@pytest.mark.parametrize(
    "url", ["http://eve:{}/x@127.0.0.1", "http://eve:{}@[h", "http://eve:{}@h:x", "eve:{}@h"]
)
def test_an_address_of_a_hub_that_cannot_be_read_is_refused_by_name(fetcher: Fetcher, url: str) -> None:
    fetcher.hub.url = url.format("pa55word")
    failure = fetcher.fail()
    assert "HF_ENDPOINT is not an http(s) address" in failure.message
    assert "pa55word" not in failure.message


def test_a_complete_commit_is_used_without_asking(fetcher: Fetcher) -> None:
    commit = fetcher.hub.add("owner/name", hubs.checkpoint())
    folder = fetcher.fetch().folder
    before = list(fetcher.hub.seen)
    assert fetcher.fetch(commit).folder == folder
    assert fetcher.hub.seen == before
    assert fetcher.reported[-1] == Progress(phase="checking", revision=commit)


def test_a_branch_is_asked_for_again_and_followed(fetcher: Fetcher) -> None:
    first = fetcher.hub.add("owner/name", hubs.checkpoint(1000))
    assert fetcher.fetch("main").revision == first
    second = fetcher.hub.add("owner/name", hubs.checkpoint(2000))
    assert fetcher.fetch("main").revision == second
    assert fetcher.fetch(first).revision == first


@pytest.mark.parametrize("fault", [hubs.Status(500), hubs.Status(503), hubs.Status(429), hubs.Status(401)])
def test_where_the_hub_fails_the_cache_does(fetcher: Fetcher, fault: hubs.Fault) -> None:
    commit = fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.fetch("main")
    fetcher.hub.fail("info", fault)
    assert fetcher.fetch("main").revision == commit
    assert fetcher.slept == []


def test_where_the_hub_is_away_the_cache_does(fetcher: Fetcher) -> None:
    commit = fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.fetch("main")
    fetcher.hub.url = "http://127.0.0.1:9"
    assert fetcher.fetch("main").revision == commit


def test_offline_nobody_is_asked(fetcher: Fetcher) -> None:
    commit = fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.fetch("main")
    before = list(fetcher.hub.seen)
    fetcher.more["HF_HUB_OFFLINE"] = "1"
    assert fetcher.fetch("main").revision == commit
    failure = fetcher.fail("other")
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert "owner/name at other is not complete in" in failure.message
    assert "and HF_HUB_OFFLINE is set: it is not known which commit that is" in failure.message
    assert fetcher.hub.seen == before


def test_a_revision_that_is_gone_is_not_made_up_for(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint(), branch="release")
    fetcher.fetch("release")
    fetcher.hub.add("owner/name", hubs.checkpoint(), branch="other")
    fetcher.hub.forget("owner/name", "release")
    assert "revision release: there is no such revision" in fetcher.fail("release").message


def test_refusals_say_what_to_do(fetcher: Fetcher) -> None:
    assert (
        "owner/name at 127.0.0.1, revision main: refused (401): it doesn't exist, or"
        in fetcher.fail().message
    )
    fetcher.hub.add("owner/name", hubs.checkpoint(), gated=True)
    assert "access is granted on request; set HF_TOKEN" in fetcher.fail().message
    fetcher.hub.add("owner/name", hubs.checkpoint())
    assert "revision nothing: there is no such revision" in fetcher.fail("nothing").message
    assert fetcher.slept == []


def test_a_hub_that_is_away_is_asked_a_few_times(fetcher: Fetcher) -> None:
    fetcher.hub.url = "http://127.0.0.1:9"
    failure = fetcher.fail()
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert "Connection refused" in failure.message
    assert fetcher.slept == [0.5, 1.0, 2.0, 4.0]
    assert fetcher.left() == {}


def test_what_the_hub_says_about_waiting_is_followed_within_reason(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.hub.fail("info", hubs.Status(429, 7), hubs.Status(503, 99_999))
    fetcher.hub.fail(WEIGHTS, hubs.Status(429, 3))
    fetcher.fetch()
    assert fetcher.slept == [7.0, 30.0, 3.0]


def test_cut_connections_are_continued(fetcher: Fetcher) -> None:
    files = hubs.checkpoint(300_000)
    fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, hubs.Cut(100_000), hubs.Cut(0), hubs.Cut(100_000))
    assert files_of(fetcher.fetch().folder) == files
    assert [each.range for each in fetcher.hub.asked("/cdn/")] == [
        None,
        "bytes=100000-",
        "bytes=100000-",
        "bytes=200000-",
    ]


def test_a_download_that_broke_off_is_continued_by_the_next_one(fetcher: Fetcher) -> None:
    files = hubs.checkpoint(300_000)
    commit = fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, hubs.Cut(120_000), *[hubs.Status(500)] * 4)
    failure = fetcher.fail()
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert "model.safetensors of owner/name at 127.0.0.1: the hub answers 500" in failure.message
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    assert fetcher.left()[f"blobs/{digest}.incomplete"] == 120_000
    fetcher.hub.seen.clear()
    assert files_of(fetcher.fetch().folder) == files
    assert [each.path for each in fetcher.hub.seen if "/resolve/" in each.path] == [
        f"/owner/name/resolve/{commit}/{WEIGHTS}"
    ]
    assert [each.range for each in fetcher.hub.asked("/cdn/")] == ["bytes=120000-"]


def test_getting_ahead_slowly_is_no_failure(fetcher: Fetcher) -> None:
    files = hubs.checkpoint(3 << 20)
    fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, *[hubs.Cut(300_000)] * 10)
    assert files_of(fetcher.fetch().folder) == files
    assert fetcher.slept == [0.5] * 10


def test_getting_ahead_by_nothing_is_given_up(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint(3 << 20))
    fetcher.hub.fail(WEIGHTS, *[hubs.Cut(1000)] * 10)
    assert fetcher.fail().kind is FailureKind.SOURCE_UNAVAILABLE
    assert len(fetcher.hub.asked("/cdn/")) == 5


def test_a_server_that_knows_no_ranges_begins_anew(fetcher: Fetcher) -> None:
    files = hubs.checkpoint(300_000)
    fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, hubs.Cut(100_000), hubs.Whole())
    assert files_of(fetcher.fetch().folder) == files


@pytest.mark.parametrize("fault", [hubs.Claim(50_000), hubs.Claim(400_000), hubs.Endless()])
def test_wrong_sizes_once(fetcher: Fetcher, fault: hubs.Fault) -> None:
    files = hubs.checkpoint(300_000)
    fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, fault)
    assert files_of(fetcher.fetch().folder) == files


@pytest.mark.parametrize("fault", [hubs.Claim(50_000), hubs.Claim(400_000)])
def test_wrong_sizes_for_ever(fetcher: Fetcher, fault: hubs.Fault) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint(300_000))
    fetcher.hub.fail(WEIGHTS, *[fault] * 5)
    failure = fetcher.fail()
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert WEIGHTS in failure.message
    assert max(fetcher.left().values()) <= 300_100


def test_wrong_bytes_once(fetcher: Fetcher) -> None:
    files = hubs.checkpoint()
    fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, hubs.Corrupt())
    fetcher.hub.fail("config.json", hubs.Corrupt())
    assert files_of(fetcher.fetch().folder) == files


def test_wrong_bytes_again_are_refused_and_not_kept(fetcher: Fetcher) -> None:
    files = hubs.checkpoint()
    fetcher.hub.add("owner/name", files)
    fetcher.hub.fail(WEIGHTS, hubs.Corrupt(), hubs.Corrupt())
    failure = fetcher.fail()
    assert failure.kind is FailureKind.INVALID_CHECKPOINT
    assert failure.message == f"{WEIGHTS}: came 2 times with another hash than 127.0.0.1 lists"
    assert max(fetcher.left().values()) < 1000
    assert files_of(fetcher.fetch().folder) == files


@pytest.mark.parametrize(
    "lie",
    [
        {"lfs": {"oid": "0" * 64, "size": 100_072, "pointerSize": 134}},
        {"lfs": {"oid": "0" * 64, "size": 5, "pointerSize": 134}},
    ],
    ids=["hash", "size"],
)
def test_a_listing_that_lies(fetcher: Fetcher, lie: dict[str, Any]) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.hub.listed[WEIGHTS] = lie
    assert WEIGHTS in fetcher.fail().message
    assert not any(name.endswith(WEIGHTS) for name in fetcher.left())


@pytest.mark.parametrize(
    "lie",
    [
        {"lfs": {"oid": "../../x", "size": 100_072, "pointerSize": 134}},
        {"lfs": {"oid": "0" * 64, "size": -1, "pointerSize": 134}},
        {"lfs": {"oid": "0" * 64, "size": "many", "pointerSize": 134}},
        {"path": "../model.safetensors"},
        {"path": "/etc/model.safetensors"},
    ],
)
def test_a_listing_that_makes_no_sense_lists_nothing(fetcher: Fetcher, lie: dict[str, Any]) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.hub.listed[WEIGHTS] = lie
    assert "neither model.safetensors nor" in fetcher.fail().message
    assert fetcher.left() == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>proxy login</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"id": "owner/name", "sha": "main", "siblings": []}',
        b'{"id": "owner/name", "sha": 7}',
        b'{"id": "owner/name", "sha": "' + b"a" * 40 + b'", "siblings": [1]}',
        b'{"id": "owner/name", "sha": "' + b"a" * 40 + b'", "siblings": [{}]}',
        b'{"a":' * 100_000,
    ],
    ids=range(10),
)
def test_a_hub_that_talks_nonsense(fetcher: Fetcher, data: bytes) -> None:
    fetcher.hub.fail("info", hubs.Nonsense(data))
    failure = fetcher.fail()
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert "127.0.0.1 answers nonsense about owner/name" in failure.message


@pytest.mark.parametrize("size", [0, 33 << 20])
def test_a_listing_is_bounded_also_when_it_says_that_it_is_compressed(fetcher: Fetcher, size: int) -> None:
    fetcher.policy = {"attempts": 1}
    headers = {} if size else {"Content-Encoding": "gzip"}
    fetcher.hub.fail("info", hubs.Nonsense(b" " * size, headers=headers))
    message = fetcher.fail().message
    assert ("longer than 33554432 bytes" if size else "compressed, which was not asked for") in message


@pytest.mark.parametrize("data", [b"[]", b"null", b"7", b'{"error": 7}', b"\xff"])
def test_refusals_that_are_nonsense(fetcher: Fetcher, data: bytes) -> None:
    files = hubs.checkpoint()
    fetcher.hub.add("owner/name", files)
    for name in (WEIGHTS, "config.json"):
        fetcher.hub.fail(name, hubs.Nonsense(data, 500, {"Content-Type": "application/json"}))
    assert files_of(fetcher.fetch().folder) == files
    assert fetcher.slept == [0.5, 0.5]


def test_files_larger_than_they_may_be_are_not_asked_for(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.hub.listed["config.json"] = {"size": 1 << 30}
    assert f"config.json: has {1 << 30} bytes; {4 << 20} are allowed" in fetcher.fail().message
    assert fetcher.hub.asked("/resolve/") == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": b"nonsense"}, "config.json: not JSON"),
        ({"config.json": b"{}"}, "config.json: model_type"),
        ({"tokenizer_config.json": b"[]"}, "tokenizer_config.json: is a JSON array"),
    ],
)
def test_a_configuration_that_is_none_shows_before_the_weights_come(
    fetcher: Fetcher, files: dict[str, bytes], message: str
) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint() | files)
    failure = fetcher.fail()
    assert failure.kind is FailureKind.INVALID_CHECKPOINT
    assert message in failure.message
    assert fetcher.hub.asked(WEIGHTS) == []
    assert fetcher.left() == {}


def test_an_index_that_points_elsewhere_shows_before_the_weights_come(fetcher: Fetcher) -> None:
    index = b'{"weight_map": {"a": "../../../etc/passwd.safetensors"}}'
    fetcher.hub.add("owner/name", {**hubs.sharded(), "model.safetensors.index.json": index})
    assert fetcher.fail().message.startswith("model.safetensors.index.json: weight_map")
    assert fetcher.left() == {}


def test_pickled_weights_are_refused_unseen(fetcher: Fetcher) -> None:
    files = hubs.checkpoint()
    files["pytorch_model.bin"] = files.pop(WEIGHTS)
    fetcher.hub.add("owner/name", files)
    assert "repository owner/name has its weights only as pytorch_model.bin" in fetcher.fail().message
    assert fetcher.hub.asked("/resolve/") == []


def test_a_slow_drip_is_given_up(fetcher: Fetcher) -> None:
    fetcher.policy = {"idle_timeout_seconds": 0.3, "floor_bytes_per_second": 10_000.0, "attempts": 2}
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.hub.fail(WEIGHTS, *[hubs.Stall(10, 0.05)] * 2)
    failure = fetcher.fail()
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert "bytes in 0 seconds" in failure.message


def test_silence_is_given_up(fetcher: Fetcher) -> None:
    fetcher.policy = {"idle_timeout_seconds": 0.3, "attempts": 1}
    fetcher.hub.add("owner/name", hubs.checkpoint())
    held = hubs.Hold(10)
    fetcher.hub.fail(WEIGHTS, held)
    assert "timed out" in fetcher.fail().message
    held.free.set()


def test_lost_files_of_the_cache_are_brought_again_and_only_these(fetcher: Fetcher) -> None:
    files = hubs.sharded()
    commit = fetcher.hub.add("owner/name", files)
    folder = fetcher.fetch().folder
    os.truncate(folder / "model-00002-of-00002.safetensors", 100)
    fetcher.hub.seen.clear()
    assert files_of(fetcher.fetch(commit).folder) == files
    assert [each.path for each in fetcher.hub.asked("/cdn/")] == ["/cdn/model-00002-of-00002.safetensors"]


@pytest.mark.parametrize("links", [True, False])
def test_several_pods_share_one_download(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        # As file systems without symbolic links do.
        monkeypatch.setattr(os, "symlink", refuse)
    files = hubs.checkpoint(200_000)
    fetcher.hub.add("owner/name", files)
    held = hubs.Hold(50_000)
    fetcher.hub.fail(WEIGHTS, held)
    waiting = threading.Event()

    def second_waits(_: float) -> None:
        waiting.set()
        threading.Event().wait(0.01)

    other = Fetcher(fetcher.hub, fetcher.cache, policy={"sleep": second_waits})
    results: list[sources.Checkpoint] = []
    threads = [
        threading.Thread(target=lambda each=each: results.append(each.fetch())) for each in (fetcher, other)
    ]
    threads[0].start()
    assert held.reached.wait(20)
    threads[1].start()
    assert waiting.wait(20)
    held.free.set()
    for thread in threads:
        thread.join(20)
    assert [files_of(each.folder) for each in results] == [files, files]
    assert len(fetcher.hub.asked("/cdn/")) == 1
    assert any(each.done_bytes >= 50_000 for each in other.reported)


def test_nonsense_for_an_address(fetcher: Fetcher) -> None:
    fetcher.hub.url = "ftp://user:password@example.com"
    failure = fetcher.fail()
    assert failure.kind is FailureKind.UNSUPPORTED
    assert failure.message == "HF_ENDPOINT is not an http(s) address: example.com"


def test_a_model_without_a_source(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="needs a source, huggingFace or path"):
        sources.fetch(ModelSpec(name="m", engine="transformers"), tmp_path, lambda _: None, {})


def test_a_cache_that_cannot_be_written(fetcher: Fetcher) -> None:
    (fetcher.cache / "hub").write_bytes(b"a file where the folder belongs")
    fetcher.hub.add("owner/name", hubs.checkpoint())
    failure = fetcher.fail()
    assert failure.kind is FailureKind.SOURCE_UNAVAILABLE
    assert f"the cache {fetcher.cache}/hub/models--owner--name can't be used" in failure.message


def test_a_new_commit_brings_only_what_changed(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.fetch()
    files = hubs.checkpoint() | {"generation_config.json": b"{}"}
    second = fetcher.hub.add("owner/name", files)
    fetcher.hub.seen.clear()
    assert files_of(fetcher.fetch().folder) == files
    assert [each.path for each in fetcher.hub.asked("/resolve/")] == [
        f"/owner/name/resolve/{second}/generation_config.json"
    ]


def test_what_is_left_of_another_commit_goes(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint(300_000))
    fetcher.hub.fail(WEIGHTS, hubs.Cut(120_000), *[hubs.Status(500)] * 4)
    fetcher.fail()
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.fetch()
    assert not any(name.endswith(".incomplete") for name in fetcher.left())


def test_a_listing_without_all_sizes_is_not_kept_as_what_a_commit_has(fetcher: Fetcher) -> None:
    files = hubs.checkpoint()
    fetcher.hub.add("owner/name", files | {"README.md": b"text"})
    fetcher.hub.listed["README.md"] = {"size": None}
    assert files_of(fetcher.fetch().folder) == files
    assert not any(name.startswith("trees/") for name in fetcher.left())


@pytest.mark.parametrize("damage", ["other bytes", "shorter"])
def test_a_file_of_another_commit_is_used_only_if_it_is_right(fetcher: Fetcher, damage: str) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    weights = (fetcher.fetch().folder / WEIGHTS).resolve()
    if damage == "shorter":
        os.truncate(weights, 100)
    else:
        weights.write_bytes(b"x" * weights.stat().st_size)
    files = hubs.checkpoint() | {"generation_config.json": b"{}"}
    fetcher.hub.add("owner/name", files)
    assert files_of(fetcher.fetch().folder) == files


def test_a_disk_that_is_full_gets_back_what_came_and_keeps_what_was_there(fetcher: Fetcher) -> None:
    fetcher.hub.add("owner/name", hubs.checkpoint())
    fetcher.fetch()
    blobs = {name for name in fetcher.left() if name.startswith("blobs/")}
    fetcher.hub.add("owner/name", hubs.checkpoint() | {"generation_config.json": b"{}"})
    fetcher.hub.listed[WEIGHTS] = {"lfs": {"oid": "0" * 64, "size": 1 << 60, "pointerSize": 134}}
    failure = fetcher.fail()
    assert failure.kind is FailureKind.DISK_FULL
    assert f"owner/name takes {1 << 60} more bytes" in failure.message
    assert {name for name in fetcher.left() if name.startswith("blobs/")} == blobs


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    for name, data in hubs.checkpoint().items():
        (folder / name).write_bytes(data)
    spec = ModelSpec(name="m", engine="transformers", path=str(folder))
    before = sources.fetch(spec, tmp_path, lambda _: None, {})
    assert (before.folder, before.revision) == (folder, None)
    assert sources.fetch(spec, tmp_path, lambda _: None, {}).key == before.key
    (folder / WEIGHTS).write_bytes(hubs.safetensors(other=b"x"))
    assert sources.fetch(spec, tmp_path, lambda _: None, {}).key != before.key


def test_a_folder_with_other_weights_of_the_same_size_and_time_has_another_key(tmp_path: Path) -> None:
    """As images that are built reproducibly have them, at the same path in two pods."""
    keys = set()
    for level in range(3):
        folder = tmp_path / str(level)
        folder.mkdir()
        for name, data in hubs.checkpoint().items():
            (folder / name).write_bytes(data)
        (folder / WEIGHTS).write_bytes(hubs.safetensors(weight=bytes([level % 2]) * 5_000_000))
        for file in folder.iterdir():
            os.utime(file, (0, 0))
        spec = ModelSpec(name="m", engine="transformers", path=str(folder))
        keys.add(sources.fetch(spec, tmp_path, lambda _: None, {}).key)
    assert len(keys) == 2
