"""Takes secrets out of texts before they leave a process: as answers, log lines, statuses, Events.

What a library says about a header, an address, a proxy or a file may quote a token or a password: "Illegal header
value b'Bearer …'". No list has all that libraries say, so texts are cleaned where they leave, in two ways together:

* by value: secrets that this process knows, wherever and however they are written (percent-encoded, in Base64, as
  Python and JSON escape them);
* by shape: credentials in headers, in addresses and in assignments, private keys, and tokens whose kind shows.

Names, digests, UUIDs and paths are no secrets and stay. Every pattern takes time in proportion to the text: no part of
one can match the same characters in two ways.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

MARK: Final = "[redacted]"
MAX_TEXT: Final = 1 << 18
"""Characters that are looked at; what is longer is cut."""
MIN_SECRET: Final = 6
"""Characters of a known secret that is looked for: shorter ones are words, which would be taken out of every text."""
MAX_SECRETS: Final = 256
"""Known secrets that are looked for."""

_MARGIN: Final = 4096
"""Left out at the end of a text that is cut, where half a secret would not be recognized."""

Replace = str | Callable[[re.Match[str]], str]


def redact(text: str) -> str:
    """Return the text without what has the shape of a secret."""
    cut = len(text) > MAX_TEXT
    text = text[:MAX_TEXT]
    lowered = text.lower()
    for needles, pattern, replace in _RULES:
        for (
            needle
        ) in needles:  # not any(): nearly all texts have none, and a generator takes three times as long
            if needle in lowered:
                text = pattern.sub(replace, text)
                break
    return f"{text[:-_MARGIN]}… (cut)" if cut else text


class Redactor:
    """Takes known secrets, and what has the shape of one, out of texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Prepare; of more than `MAX_SECRETS` the first ones count, and short ones aren't looked for."""
        known = [each for each in dict.fromkeys(secrets) if len(each) >= MIN_SECRET][:MAX_SECRETS]
        forms = {form for each in known for form in _forms(each)}
        # Longest first: one secret may be a part of another.
        self._forms = tuple(sorted(forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Return the text without secrets. What isn't one stays as it is."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARK)
        return redact(text)


def environment(environ: Mapping[str, str]) -> Redactor:
    """Return what takes the secrets of an environment out: values of variables such as HF_TOKEN, and what stands
    before the host of an address, as in HTTPS_PROXY."""
    return Redactor(_secrets(environ))


def in_address(address: str) -> Iterator[str]:
    """Yield what stands before the host of an address, and the password in it, also where neither may be in one."""
    userinfo = address.rpartition("@")[0].rpartition("://")[2]
    for written in {userinfo, unquote(userinfo)} if userinfo else ():
        yield written
        yield written.partition(":")[2]


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable of an environment is a secret or has one in it."""
    return any(_secrets({name: value}))


def everywhere(value: Any, redactor: Callable[[str], str] = redact) -> Any:
    """Return decoded JSON with each text in it redacted, keys excepted."""
    if isinstance(value, str):
        return redactor(value)
    if isinstance(value, Mapping):
        return {key: everywhere(inner, redactor) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [everywhere(inner, redactor) for inner in value]
    return value


def parser_words(message: str) -> str:
    """Return what an HTTP parser complains of, without what it quotes.

    It quotes from where it is in what came, which may be the middle of a token: "Invalid header value char: b'cr3t…'".
    """
    found = re.match(r"[A-Za-z0-9 /-]{0,80}", message)
    return (found[0].strip() if found else "") or "it can't be parsed"


# --- by value -----------------------------------------------------------------------------------------------

_SECRET_NAME: Final = re.compile(r"(?i).*(?:TOKEN|PASSWORD|PASSWD|SECRET|API_?KEY|ACCESS_KEY|CREDENTIALS?)")


_FILE_NAME: Final = re.compile(rf"{_SECRET_NAME.pattern}S?_(?:FILE|PATH)")


def _secrets(environ: Mapping[str, str]) -> Iterable[str]:
    for name, value in environ.items():
        if _FILE_NAME.fullmatch(name) and "/" in value:
            continue
        # What names a file and is no path may be the token itself, put into the wrong variable.
        if _SECRET_NAME.fullmatch(name) or _FILE_NAME.fullmatch(name):
            yield value
            yield value.strip()
        elif "@" in value and (name.lower().endswith("_proxy") or "://" in value):
            yield from in_address(value)


def _forms(secret: str) -> Iterable[str]:
    """Yield the ways in which a secret may be written."""
    encoded = quote(secret, safe="")
    yield from (secret, encoded, re.sub("%..", lambda match: match[0].lower(), encoded), quote_plus(secret))
    yield from (repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    data = secret.encode(errors="surrogateescape")
    for offset in range(3):
        # Base64 of what contains the secret differs by the number of bytes before it, at its two edges only.
        inner = base64.b64encode(bytes(offset) + data).decode().rstrip("=")
        inner = inner[(offset * 4 + 2) // 3 if offset else 0 :]
        if (offset + len(data)) % 3:
            inner = inner[:-1]
        if len(inner) >= MIN_SECRET:
            yield from (inner, inner.replace("+", "-").replace("/", "_"))


# --- by shape -----------------------------------------------------------------------------------------------

_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,32}PRIVATE KEY-----)?"
)

_HEADER: Final = re.compile(
    r"(?i)(?P<head>\b(?:proxy-)?(?:authorization|x-api-key|api-key|set-cookie|cookie|x-auth-token|private-token"
    r"|x-amz-security-token)"
    r"""(?:\\?["'][ \t]{0,8}[:=,]|[ \t]{0,8}[:=])[ \t]{0,8}(?:b?\\?["'])?)(?P<value>[^\r\n"']+)"""
)
_PLACEHOLDER: Final = re.compile(r"(?:\w{1,20} )?(?:…|\.\.\.|<[^<>]{1,40}>)")

_SCHEME: Final = re.compile(
    r"(?i)(?P<head>\b(?:bearer|basic|negotiate)(?:[ \t]{1,8}|%20))(?P<value>[A-Za-z0-9._~+/=%-]{6,})"
)
_WORD: Final = re.compile(r"[A-Za-z]?[a-z]{0,14}[.=]?")
_WORDS: Final = re.compile(r"[A-Za-z]?[a-z]*(?:[-/.][a-z]+)*[.=]?")

_USERINFO: Final = re.compile(r"""://[^\s/?#"'<>\\]+@(?!sha\d+:[0-9a-f])""")
_QUOTED_USERINFO: Final = re.compile(r"""(?i)%3a%2f%2f(?:(?!%2f|%40)[^\s&/"'<>])+%40""")

_ASSIGNED: Final = re.compile(
    r"(?i)(?P<head>(?<![A-Za-z0-9])(?P<name>token|password|passwd|pwd|passphrase|signature|sig|credential"
    r"|secret[-_]?access[-_]?key|secret[-_]?key|client[-_]?secret|api[-_]?key|access[-_]?key|security-token"
    r"|client-key-data|hmac)"
    r"""(?:\\?["'][ \t]{0,8}[:=]|=|:[ \t]{1,8}|%3d)[ \t]{0,8}(?:b?\\?["'])?)(?P<value>[^\s&#;,"'<>()\\]{4,})"""
)
_PATH: Final = re.compile(r"(?:[.~]{0,2}/[\w.-]+){2,}/?")
_IN_QUERY: Final = re.compile(
    r"""(?i)(?P<head>(?:[?&]|%26|%3f)(?:key|auth|code|secret|policy|key-pair-id)=)(?P<value>[^\s&#"'<>]{4,})"""
)

_KINDS: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{24,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?)"
)
"""Tokens of hubs and forges, and JSON Web Tokens, as Kubernetes gives them to service accounts."""


def _header(match: re.Match[str]) -> str:
    placeholder = _PLACEHOLDER.fullmatch(match["value"].strip())
    return match[0] if placeholder else match["head"] + MARK


def _scheme(match: re.Match[str]) -> str:
    """Leave prose: "a bearer token", "Basic authentication"."""
    plain = _WORD if match["head"][:2].lower() == "be" else _WORDS
    return match[0] if plain.fullmatch(match["value"]) else match["head"] + MARK


def _assigned(match: re.Match[str]) -> str:
    """Leave what is no value of a secret: a word of a sentence, a number, a path."""
    value = match["value"]
    sure = match["name"].lower() in {"signature", "sig"} and match["head"].endswith("=")
    if not sure and (len(value) < MIN_SECRET or _WORDS.fullmatch(value) or _PATH.fullmatch(value)):
        return match[0]
    return match["head"] + MARK


_RULES: Final[tuple[tuple[tuple[str, ...], re.Pattern[str], Replace], ...]] = (
    (("private key-----",), _PRIVATE_KEY, MARK),
    (("authorization", "api-key", "cookie", "-token"), _HEADER, _header),
    (("bearer", "basic", "negotiate"), _SCHEME, _scheme),
    (("://",), _USERINFO, f"://{MARK}@"),
    (("%3a%2f%2f",), _QUOTED_USERINFO, f"%3A%2F%2F{MARK}%40"),
    (("token", "pass", "pwd", "sig", "cred", "secret", "key", "hmac"), _ASSIGNED, _assigned),
    (("?", "&", "%26", "%3f"), _IN_QUERY, rf"\g<head>{MARK}"),
    (("hf_", "gh", "glpat-", "sk-", "eyj"), _KINDS, MARK),
)
"""What has to be in the text in small letters for a pattern to match, the pattern, and what takes the place."""
