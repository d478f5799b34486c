"""The client's side of SPDY/3.1 as kubectl speaks it: writes what the node reads, and reads what it writes."""

import struct
import zlib
from collections.abc import Mapping

from devcluster.node.endpoint.spdy import DICTIONARY


class Client:
    def __init__(self) -> None:
        self._out = zlib.compressobj(zdict=DICTIONARY)
        self._in = zlib.decompressobj(zdict=DICTIONARY)
        self._buffer = b""

    def open(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        texts = [text.encode() for pair in headers.items() for text in pair]
        plain = struct.pack(">I", len(headers)) + b"".join(
            struct.pack(">I", len(text)) + text for text in texts
        )
        block = self._out.compress(plain) + self._out.flush(zlib.Z_SYNC_FLUSH)
        return control(1, struct.pack(">IIH", stream, 0, 0) + block, fin=fin)

    def receive(self, received: bytes) -> list[tuple[str, int, bytes]]:
        """(what, stream, data) of each frame that is complete; data that ends a stream is "end"."""
        self._buffer += received
        found = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            body = self._buffer[8 : 8 + (second & 0xFFFFFF)]
            if len(body) < second & 0xFFFFFF:
                break
            self._buffer = self._buffer[8 + len(body) :]
            if not first >> 31:
                found.append(("end" if second >> 24 & 1 else "data", first, body))
                continue
            kind = {2: "reply", 3: "reset", 6: "ping"}[first & 0xFFFF]
            if kind == "reply":
                assert self._in.decompress(body[4:]) == bytes(4), "a reply has no headers"
            found.append((kind, struct.unpack_from(">I", body)[0], body[4:] if kind == "reset" else b""))
        return found


def control(kind: int, body: bytes, *, fin: bool = False, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, (1 if fin else 0) << 24 | len(body)) + body
