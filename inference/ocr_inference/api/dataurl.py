"""Pictures inside JSON: data URLs in base64 (RFC 2397), decoded within bounds.

Base64 is read as clients write it: broken into lines, as the tools of shells and mails do, without padding, and in the
alphabet of URLs. None of this can be mistaken for other data.
"""

import binascii
import re
from collections.abc import Callable
from typing import Final

from ocr_inference.errors import ApiError

_SCHEME: Final = "data:"
_BARE: Final = re.compile(r"[A-Za-z0-9+/_=\s-]+")
MAX_HEAD: Final = 256
"""Most characters before the data, `data:image/png;base64,`; parameters are allowed and have no effect."""
_STEP: Final = 1 << 16
"""Characters decoded at a time: others run in between. A multiple of four."""
_BLANKS: Final = b" \t\n\v\f\r"
_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")


def split(url: str, *, bare: bool = False) -> str | None:
    """Return the head of a data URL in base64, its comma included; None for any other text. With `bare`, base64 alone
    is a picture, too, and its head is empty."""
    if bare and _BARE.fullmatch(url[:MAX_HEAD]):
        return ""
    head, comma, _ = url[:MAX_HEAD].partition(",")
    if head[: len(_SCHEME)].lower() != _SCHEME or not comma or not head.lower().endswith(";base64"):
        return None
    return head + comma


class Decoder:
    """Decodes base64 that comes in pieces. The outcome doesn't depend on where it is cut: what is decoded at a time
    doesn't either."""

    def __init__(self, max_bytes: int, write: Callable[[bytes], object]) -> None:
        self._max_bytes = max_bytes
        self._write = write
        self._held = b""
        self._cleans = False
        """Whether what comes is cleaned: most base64 needs none, and the cleaning takes twice as long as the rest."""
        self._size = 0
        self._fault: str | None = None

    def add(self, text: str) -> None:
        if self.refused:
            return
        if not text.isascii():
            self._fault = "it has characters that aren't ASCII"
            return
        data = text.encode()
        data, at = self._held + (_cleaned(data) if self._cleans else data), 0
        # What may be the end waits for `finish`: only there, padding is allowed.
        while len(data) - at > _STEP and not self.refused:
            decoded = _decoded(data[at : at + _STEP])
            if decoded is not None:
                self._take(decoded)
                at += _STEP
            elif self._cleans:
                self._fault = "padding or another character in its midst"
            else:
                self._cleans = True
                data, at = _cleaned(data[at:]), 0
        self._held = data[at:]

    def finish(self) -> None:
        """Decode the rest."""
        held, self._held = _cleaned(self._held), b""
        if self.refused:
            return
        bare = held.rstrip(b"=")
        padding = b"=" * (-len(bare) % 4)
        # What is padded is padded right: more of it hides something else.
        decoded = _decoded(bare + padding, ends=True) if held in (bare, bare + padding) else None
        if decoded is None:
            self._fault = "padding or another character in its midst, or an end that is cut off"
        else:
            self._take(decoded)

    @property
    def refused(self) -> bool:
        """Whether the whole can't be used."""
        return self._fault is not None or self._size > self._max_bytes

    def check(self, param: str) -> None:
        """Raise `ApiError` that names `param` where the whole can't be used."""
        if self._fault is not None:
            raise _invalid(f"the picture isn't base64: {self._fault}", param)
        if self._size > self._max_bytes:
            message = f"pictures may have {self._max_bytes} bytes"
            raise ApiError(413, "upload_too_large", message, param=param)

    def _take(self, decoded: bytes) -> None:
        self._size += len(decoded)
        if not self.refused:
            self._write(decoded)


def _cleaned(data: bytes) -> bytes:
    """Return base64 in its own alphabet and without blanks."""
    return data.translate(_ALPHABET, _BLANKS)


def _decoded(data: bytes, *, ends: bool = False) -> bytes | None:
    """Decode base64, which has padding only where it `ends`; None for what isn't."""
    try:
        decoded = binascii.a2b_base64(data, strict_mode=True)
    except binascii.Error:
        return None
    return decoded if ends or len(decoded) == len(data) // 4 * 3 else None


def decode(url: str, max_bytes: int, param: str, *, bare: bool = False) -> bytes:
    """Decode the bytes of a data URL, or of base64 alone; raises `ApiError` that names `param`. Their format isn't
    checked here."""
    head = checked(url, param, bare=bare)
    data = bytearray()
    decoder = Decoder(max_bytes, data.extend)
    decoder.add(url[len(head) :])
    decoder.finish()
    decoder.check(param)
    return bytes(data)


def checked(url: str, param: str, *, bare: bool = False) -> str:
    """Return the head of a data URL in base64; raises `ApiError` for any other."""
    if (head := split(url, bare=bare)) is not None:
        return head
    if url[: len(_SCHEME)].lower() != _SCHEME:
        raise _refused_scheme(url[:MAX_HEAD].partition(",")[0], param)
    raise _invalid("a picture is sent as data:image/png;base64,… (or another type of picture)", param)


def _refused_scheme(head: str, param: str) -> ApiError:
    scheme = head.partition(":")[0].lower()
    if scheme in {"http", "https"}:
        return ApiError(
            422,
            "remote_url",
            "remote URLs are off: this server fetches nothing; send the picture itself as a data URL "
            "(data:image/png;base64,…)",
            param=param,
        )
    return _invalid("the picture must be a data URL (data:image/png;base64,…)", param)


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)
