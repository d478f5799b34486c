"""The frames of SPDY/3.1 that port forwarding needs, as bytes in and values out.

Kubernetes still speaks SPDY with kubelets. Left out: streams that the server opens, SETTINGS, and flow control,
which Kubernetes' own implementation (moby/spdystream) doesn't have either; such frames are passed over.
Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_HEADER_BYTES: Final = 16_384
"""Of one decompressed block; port forwarding sends three short headers."""

_VERSION: Final = 3
_FIN: Final = 1


class _Kind(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    PING = 6
    GOAWAY = 7


PROTOCOL_ERROR, REFUSED_STREAM, FLOW_CONTROL_ERROR = 1, 3, 7
"""Reasons of a reset."""


class ProtocolError(Exception):
    """Error of bytes that are no SPDY/3.1; nothing after them can be read."""


@dataclass(frozen=True, slots=True)
class SynStream:
    """Frame with which the client opens a stream. Header names are lower case."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    fin: bool
    """The client sends nothing more on this stream."""


@dataclass(frozen=True, slots=True)
class Reset:
    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """Frame after which the client opens no more streams."""


Frame = SynStream | Data | Reset | Ping | GoAway


class Decoder:
    """Decoder of what a client sends, in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete now. Raises `ProtocolError`; the decoder is of no use after that."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                break
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            if not first >> 31:
                frames.append(Data(first, body, bool(flags & _FIN)))
            elif (frame := self._control(first, flags, body)) is not None:
                frames.append(frame)
        return frames

    def _control(self, first: int, flags: int, body: bytes) -> Frame | None:
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != _VERSION:
            raise ProtocolError(f"a frame of SPDY version {version} instead of {_VERSION}")
        try:
            match kind:
                case _Kind.SYN_STREAM:
                    headers = self._block(body[10:])
                    return SynStream(_number(body), headers, bool(flags & _FIN))
                case _Kind.RST_STREAM:
                    return Reset(_number(body))
                case _Kind.PING:
                    return Ping(struct.unpack_from(">I", body)[0])
                case _Kind.GOAWAY:
                    return GoAway()
                case _:
                    return None
        except struct.error as error:
            raise ProtocolError(f"a control frame of type {kind} ends too early") from error

    def _block(self, compressed: bytes) -> dict[str, str]:
        try:
            plain = self._headers.decompress(compressed, MAX_HEADER_BYTES + 1)
        except zlib.error as error:
            raise ProtocolError(f"headers can't be decompressed: {error}") from error
        if len(plain) > MAX_HEADER_BYTES:
            raise ProtocolError(f"headers of more than {MAX_HEADER_BYTES} bytes")
        (count,) = struct.unpack_from(">I", plain)
        at, texts = 4, []
        for _ in range(2 * min(count, MAX_HEADER_BYTES)):
            (length,) = struct.unpack_from(">I", plain, at)
            texts.append(plain[at + 4 : at + 4 + length].decode(errors="replace"))
            at += 4 + length
        if at > len(plain):
            raise ProtocolError("a header ends after its block")
        return dict(zip(texts[::2], texts[1::2], strict=True))


class Encoder:
    """Encoder of the server's frames. Header blocks share one compressor, so frames must be sent in this order."""

    def __init__(self) -> None:
        self._headers = zlib.compressobj(zdict=DICTIONARY)

    def reply(self, stream: int) -> bytes:
        """Return a frame that accepts a stream, without headers."""
        block = self._headers.compress(bytes(4)) + self._headers.flush(zlib.Z_SYNC_FLUSH)
        return _control(_Kind.SYN_REPLY, struct.pack(">I", stream) + block)


def data(stream: int, chunk: bytes, *, fin: bool = False) -> bytes:
    """Return a data frame of at most 16 MiB."""
    return struct.pack(">II", stream, (_FIN if fin else 0) << 24 | len(chunk)) + chunk


def reset(stream: int, reason: int) -> bytes:
    return _control(_Kind.RST_STREAM, struct.pack(">II", stream, reason))


def ping(id: int) -> bytes:  # noqa: A002  the frame's own word
    return _control(_Kind.PING, struct.pack(">I", id))


def _control(kind: int, body: bytes) -> bytes:
    return struct.pack(">II", 1 << 31 | _VERSION << 16 | kind, len(body)) + body


def _number(body: bytes) -> int:
    number: int = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
    return number


_NAMES: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status"
)
_WORDS: Final = (
    *_NAMES.split(" "),
    *("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"),
)
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS) + _TAIL.encode()
"""What both sides' header compression starts from (section 2.6.10.1)."""
