"""Body of a call, received: its JSON, and the document in it, which went into a file as it came.

What a tool gets for a document is a data URL. Where it was long, that URL has a mark in place of its data (see
`api.diversion`), so neither the SDK nor its models hold megabytes of base64.
"""

import re
import secrets
from typing import Final

from ocr_inference.api import dataurl
from ocr_inference.api.diversion import Diversion
from ocr_inference.api.schema import MAX_PROMPT
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

MAX_VALUES: Final = 1000
"""Values in a call; those of ours have about ten. The SDK takes about 10 microseconds for each, on the loop."""
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class Sent:
    """JSON of one request."""

    def __init__(self, store: PageFile, max_bytes: int) -> None:
        """Prepare to write a long document into `store`."""
        self._store = store
        self._max_bytes = max_bytes
        self._found = Diversion(secrets.token_hex(16), store, max_bytes, long_text=MAX_PROMPT, bare=True)
        self.add = self._found.add
        """Takes what has arrived; raises 413."""

    @property
    def text(self) -> bytes:
        """The JSON, once it is complete."""
        return bytes(self._found.text)

    def refuse_many(self) -> None:
        """Raise 413 where it has more values than the SDK reads in passing."""
        if _STRING.sub(b"", self._found.text).count(b",") >= MAX_VALUES:
            raise ApiError(413, "body_too_large", f"the call has more than {MAX_VALUES} values")

    @property
    def size(self) -> int:
        """Bytes that all of it takes in memory."""
        return self._store.size + len(self._found.text)

    def fill(self, url: str, page: PageFile, param: str) -> PageFile:
        """Return the document that `url` stands for, a data URL or base64; a short one is written into `page`. Raises
        413 and 422 that name `param`."""
        if (long := self._found.place(url)) is None:
            page.write(dataurl.decode(url, self._max_bytes, param, bare=True))
            return page
        long.decoder.check(param)
        if long.size != self._store.size:
            raise ApiError(
                422, "several_documents", "the call has several documents; send one a call", param=param
            )
        return self._store
