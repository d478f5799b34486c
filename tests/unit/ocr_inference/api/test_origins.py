"""Which requests of browsers are answered: the decision alone, and the settings it works by."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocr_inference.api import origins
from ocr_inference.api.origins import Caller, Passed, Policy, Preflight, Refused

OPEN = origins.policy(cors_origins=(), allowed_hosts=(), machine="gpu7", has_tokens=False)
APP = Policy(cors_origins=frozenset({"https://app.example.com"}))
EVERYONE = Policy(cors_origins=frozenset({"*"}))
OUTSIDE = ("POST", "PUT", "DELETE", "PATCH", "TRACE", "post", "get", "")


def code(policy: Policy, caller: Caller) -> str:
    verdict = origins.decide(policy, caller)
    return verdict.code if isinstance(verdict, Refused) else ""


@pytest.mark.parametrize(
    "host",
    [
        *(None, "localhost", "LOCALHOST:8001", "localhost.", "ocr.localhost"),
        *("127.0.0.1:8001", "10.0.3.7", "[::1]:8001", "[fd00::7]", "[fe80::1%eth0]:8001"),
        *("ocr", "ocr:80", "my_ocr", "ocr.team.svc", "ocr.team.svc.cluster.local:8001", "nas.local"),
        *("host.docker.internal:8001", "gpu7"),
    ],
)
def test_a_name_of_this_network_is_answered(host: str | None) -> None:
    assert origins.decide(OPEN, Caller("POST", host)) == Passed()


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8001",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.com.",
        ),
        *("xlocal.com", "ocr.team", "1.2.3.4.5", "[evil.example]", "a@127.0.0.1", "evil.example/localhost"),
        *("localhost:8001:8001", "localhost, evil.example", "ëvil", "\udcff", " ", "localhost\n"),
    ],
)
def test_a_foreign_name_is_refused_whatever_is_asked(host: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        verdict = origins.decide(OPEN, Caller(method, host, fetch_site="same-origin"))
        assert isinstance(verdict, Refused)
        assert verdict.code == "unknown_host"
        assert "OCR_ALLOWED_HOSTS" in verdict.message
        verdict.message.encode()


def test_listed_names_are_answered_besides_our_own() -> None:
    listed = origins.policy(
        cors_origins=(),
        allowed_hosts=("ocr.example.com", "*.team"),
        machine="gpu7.corp.example",
        has_tokens=False,
    )
    for host in ("OCR.example.com:443", "a.team", "a.b.team", "gpu7.corp.example", "10.0.0.1", "localhost"):
        assert not code(listed, Caller("GET", host)), host
    for host in ("x.ocr.example.com", "ateam.com", "a.yteam", "gpu8.corp.example"):
        assert code(listed, Caller("GET", host)) == "unknown_host", host
    everything = origins.policy(cors_origins=(), allowed_hosts=("*",), machine="m", has_tokens=False)
    assert not code(everything, Caller("GET", "evil.example"))


def test_with_a_token_names_are_checked_only_where_some_are_listed() -> None:
    behind_an_ingress = origins.policy(cors_origins=(), allowed_hosts=(), machine="m", has_tokens=True)
    assert not code(behind_an_ingress, Caller("GET", "ocr.example.com"))
    strict = origins.policy(cors_origins=(), allowed_hosts=("ocr.example.com",), machine="m", has_tokens=True)
    assert code(strict, Caller("GET", "evil.example")) == "unknown_host"


@pytest.mark.parametrize(
    "caller",
    [
        Caller("POST", "ocr:8001"),
        Caller("POST", "ocr:8001", "http://ocr:8001"),
        Caller("POST", "ocr", "http://OCR:80"),
        Caller("POST", "ocr:80", "http://ocr"),
        Caller("POST", "ocr.local", "https://ocr.local"),
        Caller("POST", "[::1]:8001", "http://[::1]:8001"),
        Caller("POST", "localhost:8001", "http://localhost:8001", "same-origin"),
        Caller("POST", "upstream", "https://ocr.example.com", "same-origin"),  # a proxy changed the host
        Caller("POST", "localhost", fetch_site="none"),
    ],
    ids=str,
)
def test_programs_and_our_own_page_may_do_everything(caller: Caller) -> None:
    assert origins.decide(OPEN, caller) == Passed()


@pytest.mark.parametrize(
    "caller",
    [
        Caller("POST", "localhost:8001", "https://evil.example", "cross-site"),
        Caller("POST", "localhost:8001", "http://localhost:3000", "same-site"),
        Caller("POST", "localhost:8001", "http://localhost:8001", "cross-site"),
        Caller("POST", "localhost:8001", None, "cross-site"),
        Caller("POST", "localhost:8001", None, "something-new"),
        Caller("POST", "localhost:8001", None, "cross-site, same-origin"),
        Caller("POST", "localhost:8001", "http://localhost:3000"),
        Caller("POST", "localhost:8001", "null"),
        Caller("POST", "localhost:8001", "http://localhost:8001, https://evil.example"),
        Caller("POST", "localhost", "ftp://localhost"),
        Caller("POST", "localhost", "localhost"),
        Caller("POST", None, "http://"),
        Caller("POST", "localhost", "\udcff"),
    ],
    ids=ascii,
)
def test_a_page_of_another_site_changes_nothing(caller: Caller) -> None:
    verdict = origins.decide(OPEN, caller)
    assert isinstance(verdict, Refused)
    assert verdict.code == "cross_origin"
    assert "OCR_CORS_ORIGINS" in verdict.message
    verdict.message.encode()
    # Looking is fine: the browser keeps the answer from the page.
    assert origins.decide(OPEN, Caller("GET", caller.host, caller.origin, caller.fetch_site)) == Passed()


@pytest.mark.parametrize("method", OUTSIDE)
def test_only_methods_that_change_nothing_are_let_through(method: str) -> None:
    assert code(OPEN, Caller(method, "localhost", fetch_site="cross-site")) == "cross_origin"


def test_a_listed_page_may_do_everything_and_read_the_answers() -> None:
    for policy, allowed in ((APP, "https://app.example.com"), (EVERYONE, "*")):
        caller = Caller("POST", "localhost", "https://app.example.com", "cross-site")
        assert origins.decide(policy, caller) == Passed()
        assert origins.headers(policy, Passed(), caller.origin)["Access-Control-Allow-Origin"] == allowed
        question = Caller("OPTIONS", "localhost", caller.origin, "cross-site", "POST")
        assert origins.decide(policy, question) == Preflight()
        answer = origins.headers(policy, Preflight(), caller.origin)
        assert answer["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE"
        assert answer["Access-Control-Allow-Headers"].startswith("Authorization")
    assert origins.headers(APP, Passed(), "https://app.example.com")["Vary"] == "Origin"
    assert origins.headers(APP, Passed(), "https://evil.example") == {"Vary": "Origin"}
    assert origins.headers(APP, Passed(), None) == {"Vary": "Origin"}


def test_a_preflight_of_an_unlisted_page_is_refused() -> None:
    question = Caller("OPTIONS", "localhost", "https://evil.example", "cross-site", "POST")
    assert code(OPEN, question) == code(APP, question) == "cross_origin"
    assert origins.decide(OPEN, Caller("OPTIONS", "localhost")) == Passed()


TEXTS = st.text(max_size=20) | st.sampled_from(
    ["https://app.example.com", "http://localhost", "null", "localhost", "evil.example", "cross-site"]
)
HEADERS = st.none() | TEXTS
CALLERS = st.builds(
    Caller,
    st.sampled_from(["GET", "HEAD", "OPTIONS", *OUTSIDE]),
    host=HEADERS,
    origin=HEADERS,
    fetch_site=HEADERS | st.sampled_from(["cross-site", "same-site", "same-origin", "none"]),
    preflight_for=HEADERS,
)
POLICIES = st.builds(
    Policy,
    st.sets(st.sampled_from(["*", "https://app.example.com"])).map(frozenset),
    st.lists(st.sampled_from(["*", "*.team", "ocr.example.com"])).map(tuple),
    st.booleans(),
)


@given(POLICIES, CALLERS)
@example(OPEN, Caller("post", "localhost", "https://evil.example", "same-site"))
def test_no_page_of_another_site_ever_passes_unlisted(policy: Policy, caller: Caller) -> None:
    verdict = origins.decide(policy, caller)
    listed = "*" in policy.cors_origins or (caller.origin or "").lower() in policy.cors_origins
    if caller.fetch_site in ("cross-site", "same-site") and not listed:
        assert isinstance(verdict, Refused) or caller.method in ("GET", "HEAD", "OPTIONS")
        assert not isinstance(verdict, Preflight)
    if caller.origin is None and caller.fetch_site is None and not policy.checks_hosts:
        assert not isinstance(verdict, Refused) or caller.preflight_for is not None


@given(POLICIES, CALLERS)
def test_answers_are_readable_only_by_listed_pages_and_never_with_credentials(
    policy: Policy, caller: Caller
) -> None:
    answer = origins.headers(policy, origins.decide(policy, caller), caller.origin)
    assert "Access-Control-Allow-Credentials" not in answer
    if (allowed := answer.get("Access-Control-Allow-Origin")) is not None:
        assert allowed in ("*", caller.origin)
        assert "*" in policy.cors_origins or allowed.lower() in policy.cors_origins
    if not policy.cors_origins:
        assert answer == {}


@given(
    st.from_regex(
        r"[a-z0-9-]{1,10}(\.[a-z0-9-]{1,10}){0,3}\.(com|example|dev)\.?(:[0-9]{1,5})?", fullmatch=True
    )
)
def test_no_public_name_is_ours_by_itself(host: str) -> None:
    assert code(OPEN, Caller("GET", host)) == "unknown_host"
