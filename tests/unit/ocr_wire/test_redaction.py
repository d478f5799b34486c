"""Secrets go, however they are written; everything else stays as it is."""

import base64
import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocr_wire import redaction, text
from ocr_wire.redaction import MARK, Redactor, redact

SECRET = "s3cr3t/Tö+k&n=='\"\\"
TOKEN = "Zm9vYmFy-0123.456~x"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl_x-y"

SHAPES = {
    "Authorization: Bearer {}": TOKEN,
    "authorization: {}": TOKEN,
    "Illegal header value b'Bearer {}\\n'": TOKEN,
    "b'Authorization: Basic {}'": "dXNlcjpwYXNzd29yZA==",
    "{{'Authorization': 'Bearer {}', 'Accept': '*/*'}}": TOKEN,
    '{{"Proxy-Authorization": "Basic {}"}}': "dXNlcjpwYXNz",
    "[(b'authorization', b'Bearer {}')]": TOKEN,
    "Authorization: Digest username=x, response={}": "0123456789abcdef",
    "x-api-key: {}": "key-of-a-team",
    "Cookie: session={}; theme=dark": "abcdef123",
    "got a header Bearer {}, which is long": TOKEN,
    "http://user:{}@proxy.example:3128 refused": "p4ss:w@rd",
    "http://{}@git.example/x.git": "ghtoken",
    "https://hub/x?X-Amz-Algorithm=A&X-Amz-Signature={}&x=1": "0123456789abcdef",
    "https://hub/x?X-Amz-Credential={}&x=1": "AKIA0123%2F20261128%2Fus-east-1",
    "https://blob/x?sp=r&sig={}": "abc%2Bdef%3D",
    "https://cdn/x?Expires=1&Signature={}&Key-Pair-Id=K": "abc~def__",
    "GET /v1/state?token={} HTTP/1.1": TOKEN,
    "GET /v1/state?a=b&key={}": "0a1b2c3d",
    "proxied to http%3A%2F%2Fuser%3A{}%40host%2Fx": "p4ssw0rd",
    "HF_TOKEN={} isn't accepted": TOKEN,
    'password: "{}"': "hunter22",
    "    token: {}\n        ^": "abc123def456",
    "client-key-data: {}": "LS0tLS1CRUdJTiBSU0Eg",
    "no access with {}": "hf_AbCdEfGhIjKlMnOpQrStUvWx",
    "the account's {} has expired": JWT,
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----": "MIIEpAIBAAKCAQEA",
}


@pytest.mark.parametrize("template", SHAPES)
def test_what_has_the_shape_of_a_secret_goes(template: str) -> None:
    secret = SHAPES[template]
    said = template.format(secret)
    assert secret in said
    for written in (said, json.dumps(said), repr(said), f"before {said}", f"a\n{said}\nb"):
        cleaned = redact(written)
        assert secret not in cleaned
        assert MARK in cleaned
        assert redact(cleaned) == cleaned


STAYS = [
    "this call needs an API key: send the header 'Authorization: Bearer …'",
    "the bearer token of this server; Basic authentication isn't known; basic read/write",
    'WWW-Authenticate: Bearer realm="ocr"',
    "sha256:" + "0a" * 32,
    "docker://alpine@sha256:" + "0a" * 32,
    "ghcr.io/ocr-operator/ocr-inference@sha256:" + "0a" * 32,
    "worker started model=deepseek-ocr pid=4711 request_id=0123456789abcdef",
    "max_tokens=4096 eos_token=2 pad_token='<|endoftext|>' tokens=123456789",
    "tokens can be read again variable=OCR_ADMIN_TOKEN_FILE path=/etc/ocr/admin/token",
    "token: it is missing; unexpected token: identifier; password: required",
    "token=/var/run/secrets/kubernetes.io/serviceaccount/token",
    "Secret default/invoices-ocr-admin was not found (404)",
    "GPU-8f6a2c1e-1b2c-4d5e-9f00-0123456789ab on gpu-a",
    "pod lost pod=default/invoices-7c9d8f6b5-x2x4z why=no heartbeat within 12 s",
    "http://127.0.0.1:8001/v1/state?watch=true",
    "https://huggingface.co/deepseek-ai/DeepSeek-OCR/resolve/main/config.json",
    "mail somebody@example.com about http://example.com/a@b",
    "2026-11-28T18:53:48.000Z info    placed pod=a node=gpu-a",
    "models--owner--name/snapshots/0123456789abcdef0123456789abcdef01234567/model-00001-of-00002.safetensors",
    "keys: api_keys_file; the key-value cache has 128 slots; key=value",
    "signature of the function is wrong; passed=12 failed=3; password-protected PDF",
]


@pytest.mark.parametrize("said", STAYS)
def test_what_is_no_secret_stays(said: str) -> None:
    assert redact(said) == said
    assert Redactor([SECRET, TOKEN])(said) == said


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
harmless = st.one_of(
    names,
    st.uuids().map(str),
    st.uuids().map(lambda each: f"GPU-{each}"),
    st.binary(min_size=32, max_size=32).map(lambda each: f"sha256:{each.hex()}"),
    st.binary(min_size=20, max_size=20).map(bytes.hex),
    st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.tuples(names, names).map(lambda pair: f"{pair[0]}.{pair[1]}:8001/v1"),
    st.floats(0, 1e9).map(str),
    st.datetimes().map(lambda each: each.isoformat()),
    st.sampled_from(STAYS),
)


@given(st.lists(st.tuples(st.sampled_from(["pod=", "path=", "why: ", "model ", ""]), harmless), max_size=8))
def test_names_digests_ids_and_paths_stay_together_too(parts: list[tuple[str, str]]) -> None:
    said = "; ".join(lead + value for lead, value in parts)
    assert redact(said) == said


secrets = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=redaction.MIN_SECRET, max_size=60
)
WRITINGS: dict[str, Any] = {
    "plain": lambda each: each,
    "percent-encoded": lambda each: quote(each, safe=""),
    "percent-encoded, small": lambda each: re.sub(
        "%..", lambda found: found[0].lower(), quote(each, safe="")
    ),
    "of Python": lambda each: repr(f"x{each}"),
    "of JSON": lambda each: json.dumps({"x": each}),
    "Secret": lambda each: base64.b64encode(each.encode()).decode(),
    "Basic": lambda each: base64.b64encode(f"user:{each}".encode()).decode(),
    "Basic of another": lambda each: base64.b64encode(f"us:{each}@".encode()).decode(),
    "in a safe alphabet": lambda each: base64.urlsafe_b64encode(f"u:{each}".encode()).decode(),
}


@pytest.mark.parametrize("how", WRITINGS)
@given(secret=secrets, around=st.tuples(names, names))
def test_a_known_secret_goes_in_every_writing(how: str, secret: str, around: tuple[str, str]) -> None:
    written = WRITINGS[how](secret)
    said = f"{around[0]} {written} {around[1]}"
    cleaned = Redactor([secret])(said)
    assert MARK in cleaned
    if how in {"plain", "of JSON", "of Python"}:
        assert secret not in cleaned.replace(MARK, "")
    assert cleaned.startswith(around[0])
    assert cleaned.endswith(around[1])


@given(st.text(max_size=300), secrets)
def test_nothing_is_left_of_a_known_secret_in_any_text(said: str, secret: str) -> None:
    assume(secret not in MARK)
    for written in (said + secret, f"://{secret}", f"token={secret}&{said}", secret + said + secret):
        assert secret not in Redactor([secret])(written).replace(MARK, "\0")


def test_a_short_secret_is_a_word_and_stays() -> None:
    assert Redactor(["a", "model"])("a model") == "a model"


def test_secrets_of_an_environment_are_known() -> None:
    clean = redaction.environment(
        {
            "HF_TOKEN": "mytoken99\r\n",
            "AWS_SECRET_ACCESS_KEY": "awskey99",
            "HTTPS_PROXY": "http://eve:pass%2Fw0rd@proxy:3128",
            "http_proxy": "eve2:passw0rd2@proxy:3128",
            "OCR_OPERATOR_PROMETHEUS_URL": "http://prom:pr0mpass@prometheus:9090",
            "OCR_ADMIN_TOKEN_FILE": "/etc/ocr/admin/token",
            "OCR_API_KEYS_FILE": "n0file-key",
            "PATH": "/usr/bin:/bin",
        }
    )
    for secret in (
        "mytoken99",
        "awskey99",
        "pass%2Fw0rd",
        "pass/w0rd",
        "passw0rd2",
        "pr0mpass",
        "n0file-key",
    ):
        assert clean(f"it says {secret}!") == f"it says {MARK}!"
    assert clean("/etc/ocr/admin/token /usr/bin:/bin proxy:3128") == (
        "/etc/ocr/admin/token /usr/bin:/bin proxy:3128"
    )


def test_every_text_of_a_document_is_cleaned() -> None:
    given = {"a": ["Bearer abc-123", 3, None], "b": {"message": "token=abc123def"}, "c": ("x",)}
    assert redaction.everywhere(given) == {
        "a": [f"Bearer {MARK}", 3, None],
        "b": {"message": f"token={MARK}"},
        "c": ["x"],
    }


@pytest.mark.parametrize("limit", [20, 40, 60, 80, 120])
def test_a_text_is_cleaned_before_it_is_cut(limit: int) -> None:
    said = f"the proxy http://user:{'p4ssw0rd' * 8}@host refused Bearer {TOKEN * 3}"
    assert "p4ss" not in text.clean(said, limit)
    assert "p4ss" not in text.shown(said)
    assert TOKEN[:6] not in text.clean(said, limit)


HOSTILE = [
    "://", "://a", "@", "a@", "://a@", "bearer ", "bearer a", "Authorization", "authorization: ", "token=", "token",
    "eyJ", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "%3a%2f%2f", "%3a%2f%2fa", "&key=", "a=", "a/", "a-", "hf_",
    '\\"', "' , ", "sha256:", "password: ", ".~/", "/a",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_longest_text_takes_no_longer_for_what_is_in_it(piece: str) -> None:
    """A pattern whose time grew with the square of the length would not end within the time that a test has."""
    said = (piece * redaction.MAX_TEXT)[: redaction.MAX_TEXT]
    redact("bearer ://token -----begin private key-----" + said)


def test_a_text_without_end_is_cut_and_says_so() -> None:
    secret = "Bearer abc123-def"
    cleaned = redact("x" * (redaction.MAX_TEXT - 8) + secret)
    assert "Bearer" not in cleaned
    assert cleaned.endswith("… (cut)")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Invalid header value char:\n\n  b'RK1\\x01MARK2'\n       ^", "Invalid header value char"),
        (
            "Got more than 8190 bytes when reading: b'Bearer s3cret...'.",
            "Got more than 8190 bytes when reading",
        ),
        ("Bad HTTP method in status line 'GETs3cret'", "Bad HTTP method in status line"),
        ("'s3cret'", "it can't be parsed"),
    ],
)
def test_of_a_parser_s_words_what_it_quotes_is_left_out(message: str, words: str) -> None:
    assert redaction.parser_words(message) == words
