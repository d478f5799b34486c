"""Forms and small bodies: uploads part by part, the picture into its file as it arrives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ocr_inference.api.appkeys import BODIES
from ocr_inference.api.bodies import Body
from ocr_inference.errors import ApiError

FILE_FIELDS = ("file", "image")
MAX_FIELD_BYTES = 1 << 16
MAX_FIELDS = 32
MAX_FILENAME = 255
OVERHEAD_BYTES = 1 << 20
"""Bytes that a form may take besides its file: fields, boundaries, headers."""
CHUNK_BYTES = 1 << 16

Write = Callable[[bytes], None]


@dataclass
class Upload:
    has_picture: bool = False
    filename: str = ""
    """Of the picture, as its client named it: nothing is opened by it."""
    has_parts: bool = False
    """Whether the body has any field, known or not."""
    fields: dict[str, str] = field(default_factory=dict)


def media_type(request: web.Request) -> str:
    """Return the body's media type without its parameters. aiohttp's own reading of the header parses it as one of an
    e-mail, which takes a third of a millisecond for each new boundary."""
    return (
        request.headers.get("Content-Type", "application/octet-stream")
        .partition(";")[0]
        .strip()
        .lower()[:100]
    )


def upload_size(request: web.Request, max_bytes: int) -> int:
    """Return how many bytes the form takes at most; raises 415 and 413 for what the head alone tells."""
    if (kind := media_type(request)) != "multipart/form-data":
        raise ApiError(
            415,
            "unsupported_media_type",
            f"send multipart/form-data with the picture in field 'file'; got {kind}",
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "send the form as it is, without Content-Encoding")
    most = max_bytes + OVERHEAD_BYTES
    size = most if request.content_length is None else request.content_length
    if size > most:
        raise _too_large(max_bytes)
    return size


async def read_upload(request: web.Request, max_bytes: int, write: Write) -> Upload:
    """Read the form's text fields, the query's included, since a field counts the same in both; the picture's bytes go
    to `write` as they arrive. Refuses with 413 as soon as the limit is certain to be passed."""
    upload_size(request, max_bytes)
    try:
        async with request.app[BODIES].reading(request) as body:
            return await _read_parts(request, body, max_bytes, write)
    except (ValueError, RuntimeError, AssertionError, LookupError, HttpProcessingError) as error:
        # What aiohttp's reader raises on bodies that are no multipart after all.
        reason = str(error)[:200] or type(error).__name__
        raise ApiError(400, "malformed_multipart", f"the form can't be read: {reason}") from None


async def _read_parts(request: web.Request, body: Body, max_bytes: int, write: Write) -> Upload:
    upload = Upload()
    for name, text in request.query.items():
        _add(upload.fields, name[:64], text)
    reader = await body.parts()
    count = 0
    while (part := await reader.next()) is not None:
        count += 1
        if count > MAX_FIELDS:
            raise ApiError(400, "too_many_fields", f"the form has more than {MAX_FIELDS} fields")
        if not isinstance(part, BodyPartReader):
            raise ApiError(400, "malformed_multipart", "the form has a multipart inside a field")
        upload.has_parts = True
        name = _utf8(part.name or "")
        if name in FILE_FIELDS:
            if upload.has_picture:
                raise ApiError(
                    400, "two_files", "the form has two pictures; send one request each", param=name
                )
            upload.has_picture = True
            upload.filename = _utf8(part.filename or "")[:MAX_FILENAME]
            await _copy(body, part, max_bytes, partial(_too_large, max_bytes), write)
        else:
            shown = name[:64] or "(unnamed)"
            data = bytearray()
            await _copy(body, part, MAX_FIELD_BYTES, partial(_field_too_large, shown), data.extend)
            try:
                text = data.decode()
            except UnicodeDecodeError:
                raise ApiError(400, "not_utf8", f"field {shown} is not UTF-8 text", param=shown) from None
            _add(upload.fields, shown, text)
    if not reader.at_eof():
        raise ApiError(400, "malformed_multipart", "the form ends before its last boundary")
    return upload


def _utf8(name: str) -> str:
    """Return a name from a part's head without the bytes that aren't UTF-8, which no answer can repeat."""
    return name.encode(errors="replace").decode()


def _add(fields: dict[str, str], name: str, text: str) -> None:
    if fields.setdefault(name, text) != text:
        raise ApiError(422, "invalid_value", f"{name} is given twice, with two values", param=name)


async def _copy(
    body: Body, part: BodyPartReader, limit: int, too_large: Callable[[], ApiError], write: Write
) -> None:
    if part.headers.get("Content-Transfer-Encoding", "binary").lower() not in {"binary", "8bit", "7bit"}:
        raise ApiError(400, "unsupported_encoding", "send the field's bytes as they are, not encoded")
    size = 0
    while chunk := await part.read_chunk(CHUNK_BYTES):
        body.progressed(len(chunk))
        size += len(chunk)
        if size > limit:
            raise too_large()
        write(chunk)


def _field_too_large(name: str) -> ApiError:
    return ApiError(413, "field_too_large", f"field {name} is too large", param=name)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        "upload_too_large",
        f"uploads may have {max_bytes} bytes: server.limits.maxUploadBytes",
        param="file",
    )


def most_json_bytes(max_bytes: int) -> int:
    """Return the most bytes of a JSON body whose picture has `max_bytes`: base64 writes three bytes as four."""
    return max_bytes * 4 // 3 + OVERHEAD_BYTES


def json_size(request: web.Request, max_bytes: int) -> int:
    """Return how many bytes a JSON body takes at most; raises 415 and 413 for what the head alone tells."""
    if (kind := media_type(request)) != "application/json":
        raise ApiError(415, "unsupported_media_type", f"send application/json; got {kind}")
    return _body_size(request, max_bytes)


def _body_size(request: web.Request, max_bytes: int) -> int:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "send the body as it is, without Content-Encoding")
    size = max_bytes if request.content_length is None else request.content_length
    if size > max_bytes:
        raise _body_too_large(max_bytes)
    return size


async def read_body(request: web.Request, max_bytes: int) -> bytearray:
    """Read a body within `max_bytes`, whatever its type."""
    body = bytearray()
    await copy_body(request, max_bytes, body.extend)
    return body


async def copy_body(request: web.Request, max_bytes: int, write: Write) -> None:
    """Read a body within `max_bytes` and give it to `write` as it arrives. Refuses with 413 as soon as the limit is
    certain to be passed."""
    _body_size(request, max_bytes)
    size = 0
    async with request.app[BODIES].reading(request) as body:
        while piece := await body.piece():
            size += len(piece)
            if size > max_bytes:
                raise _body_too_large(max_bytes)
            write(piece)


def _body_too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body may have {max_bytes} bytes")


async def is_empty(request: web.Request) -> bool:
    """Return whether the body has no byte; one that has is of no use afterwards."""
    async with request.app[BODIES].reading(request) as body:
        return not await body.piece()
