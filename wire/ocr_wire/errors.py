"""The document that a refused request is answered with, in both of its shapes.

One is OpenAI's, `{"error": {"message", "type", "code", "param"}}`: the server answers with it below `/v1`, and that of
version 0.1 everywhere. The other is flat, as clients of comparable servers read it: `{"success": false, "error":
"<message>", "detail": "<message>", "type", "code", "param"}`. Both are read.
"""

from typing import Annotated, Any, Final

import msgspec

from ocr_wire import text
from ocr_wire.checked import Invalid, convert, decode

MAX_BYTES: Final = 65_536
"""Of an answer that is read as an error."""
MAX_RAW: Final = 200
"""Characters that are repeated of an answer that is no such document, such as a proxy's page."""

Word = Annotated[str, msgspec.Meta(max_length=256)]


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Error of a refused request. The message names the thing and the way out; `code` is for programs."""

    message: str = ""
    type: Word | None = None
    code: Word | None = None
    param: Word | None = None
    """The field of the request that is at fault."""
    suggestions: tuple[Annotated[str, msgspec.Meta(max_length=500)], ...] = ()
    """What may help, a sentence each, where trying again doesn't; beside the error, where clients of comparable servers
    read it."""

    def nested(self) -> dict[str, Any]:
        """Return the document in OpenAI's shape."""
        words = {"message": self.message, "type": self.type, "code": self.code, "param": self.param}
        return {"error": words, **self._advice()}

    def flat(self) -> dict[str, Any]:
        """Return the document in the flat shape."""
        words = {"type": self.type, "code": self.code, "param": self.param, **self._advice()}
        return {"success": False, "error": self.message, "detail": self.message, **words}

    def _advice(self) -> dict[str, Any]:
        return {"suggestions": list(self.suggestions)} if self.suggestions else {}


def read(body: bytes) -> ErrorInfo:
    """Read an answer that isn't 2xx, in either shape. What is neither becomes the message, cut and in one line."""
    raw = decode(body, MAX_BYTES)
    if isinstance(raw, dict):
        error = raw.get("error")
        if isinstance(error, str):
            error = {**raw, "message": error}
        if isinstance(error, dict):
            found = convert(error, ErrorInfo)
            if not isinstance(found, Invalid):
                return msgspec.structs.replace(found, message=text.clean(found.message))
    return ErrorInfo(message=text.clean(body[: 4 * MAX_RAW].decode(errors="replace"), MAX_RAW))
