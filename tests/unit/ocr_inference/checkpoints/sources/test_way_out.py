"""The way to a hub: through real proxies, by certificates of one's own, or an error that names the variable."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_inference.checkpoints import sources
from ocr_inference.checkpoints.sources import way_out
from ocr_inference.checkpoints.sources.retry_policy import RetryPolicy
from ocr_inference.protocol.engine import EngineError, ModelSpec
from tests.support import hub as hubs
from tests.support import marks, proxies
from tests.support.certificates import certify

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of the test's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hub() -> Iterator[hubs.Hub]:
    with hubs.serving() as hub:
        hub.add("owner/name", hubs.checkpoint())
        yield hub


def fetch(hub: hubs.Hub, cache: Path, slept: list[float] | None = None, **environ: str) -> set[str]:
    """Names of the files that came."""
    spec = ModelSpec(name="m", engine="transformers", repo="owner/name")
    policy = RetryPolicy(sleep=([] if slept is None else slept).append)
    found = sources.fetch(spec, cache, lambda _: None, {"HF_ENDPOINT": hub.url, **environ}, policy)
    return {each.name for each in found.folder.iterdir()}


def refused(hub: hubs.Hub, cache: Path, **environ: str) -> str:
    """The message, of one attempt."""
    slept: list[float] = []
    with pytest.raises(EngineError) as failed:
        fetch(hub, cache, slept, **environ)
    assert slept == [], "what stays wrong isn't tried again"
    return failed.value.failure.message


ALL = set(hubs.checkpoint())


# --- mirrors --------------------------------------------------------------------------------------------------


def test_a_mirror_that_lists_names_alone_is_asked_for_each_file(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.add("owner/name", {**hubs.checkpoint(), "README.md": b"not wanted"})
    hub.lists_names_only = True
    assert fetch(hub, tmp_path) == ALL
    assert {each.path.rsplit("/", 1)[1] for each in hub.seen if each.method == "HEAD"} == ALL
    assert "X-Amz" not in str(hub.seen)


def test_what_comes_from_such_a_mirror_is_verified_all_the_same(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.lists_names_only = True
    head = (hubs.Status(503), hubs.Whole())
    hub.fail("config.json", *head, hubs.Corrupt(), hubs.Corrupt())
    slept: list[float] = []
    with pytest.raises(EngineError, match=r"config\.json: came 2 times with another hash"):
        fetch(hub, tmp_path, slept)
    assert len(slept) == 1, "its size was asked for again"


def test_weights_whose_listing_has_the_hash_of_their_pointer_are_asked_for(
    hub: hubs.Hub, tmp_path: Path
) -> None:
    hub.listed["model.safetensors"] = {"lfs": None, "oid": "0" * 40}
    assert fetch(hub, tmp_path) == ALL


def test_a_mirror_that_never_says_hashes_is_named(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.lists_names_only, hub.tags = True, False
    message = refused(hub, tmp_path)
    assert message.startswith("config.json of owner/name at 127.0.0.1: neither its listing nor")
    assert "HF_ENDPOINT" in message


# --- proxies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "scheme"),
    [("HTTP_PROXY", "http"), ("http_proxy", "http"), ("ALL_PROXY", "socks5"), ("all_proxy", "socks5h")],
)
def test_a_proxy_is_used(
    hub: hubs.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    with proxies.serving() as proxy:
        monkeypatch.setenv(variable, f"{scheme}://{proxy.address}")
        assert fetch(hub, tmp_path) == ALL
    authorities = {url.removeprefix("http://") for url in (hub.url, hub.cdn)}
    assert set(proxy.targets) == authorities, "where a redirect leads, too"


@pytest.mark.parametrize("without", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "*", ".example.com,127.0.0.1"])
def test_what_needs_no_proxy_goes_by_none(
    hub: hubs.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    monkeypatch.setenv("NO_PROXY", without)
    with proxies.serving() as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://{proxy.address}")
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        assert fetch(hub, tmp_path) == ALL
    assert proxy.targets == []


def test_a_proxy_that_wants_a_password(
    hub: hubs.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = marks.mark()
    with proxies.serving(secret) as proxy, hubs.serving(certify(tmp_path, "hub", "127.0.0.1")) as private:
        private.add("owner/name", hubs.checkpoint())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "hub.pem"))
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{secret}@{proxy.address}")
        assert fetch(private, tmp_path / "one") == ALL
        assert len(proxy.targets) >= 2, "by CONNECT"
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:x{secret}@{proxy.address}")
        message = refused(private, tmp_path / "two")
    assert "407" in message
    assert "HTTPS_PROXY" in message
    assert not marks.leaks(message, secret)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HTTP_PROXY": "http://127.0.0.1:3128\n"}, "HTTP_PROXY has white space in it"),
        ({"ALL_PROXY": "socks4://127.0.0.1:1080"}, "ALL_PROXY has the scheme 'socks4'; http, https, socks5"),
        ({"HTTP_PROXY": "http://eve:a/b@127.0.0.1:9"}, "HTTP_PROXY is no address of a proxy"),
        ({"SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE names '/nowhere.pem', which is no file"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    hub: hubs.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], said: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert said in refused(hub, tmp_path)


def test_faults_are_found_by_the_environment_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    assert way_out.fault({}) is None
    assert (
        way_out.fault({"HTTP_PROXY": "proxy:3128", "https_proxy": "https://u:p@p", "NO_PROXY": " a, b"})
        is None
    )
    assert (way_out.fault({"https_proxy": "http://"}) or "").startswith("https_proxy is no address")
    found = way_out.fault({"SSL_CERT_FILE": str(tmp_path / "empty.pem")}) or ""
    assert "whose certificates can't be read" in found


# --- certificates ---------------------------------------------------------------------------------------------


def test_an_authority_of_ones_own_is_trusted_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certify(tmp_path, "hub", "127.0.0.1")
    with hubs.serving(certificate) as private:
        private.add("owner/name", hubs.checkpoint())
        message = refused(private, tmp_path / "cache")
        assert "set SSL_CERT_FILE to a file with the authorities that are trusted" in message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(private, tmp_path / "cache") == ALL


# --- what people leave in variables ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("'hf_secret'", "HF_TOKEN has quotes around it"),
        ("Bearer hf_secret", "HF_TOKEN has a blank in it"),
        ("hf_sec ret", "HF_TOKEN has a blank in it"),
    ],
)
def test_a_token_that_is_not_the_token_alone_is_named_and_not_quoted(
    hub: hubs.Hub, tmp_path: Path, token: str, said: str
) -> None:
    message = refused(hub, tmp_path, HF_TOKEN=token)
    assert said in message
    assert "secret" not in message


def test_white_space_around_an_address_does_not_count(hub: hubs.Hub, tmp_path: Path) -> None:
    hub.url = f" {hub.url}/\n"
    assert fetch(hub, tmp_path) == ALL
