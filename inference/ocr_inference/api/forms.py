"""Bodies from outside, read within bounds: uploads part by part."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ocr_inference.errors import ApiError

FILE_FIELDS = ("file", "image")
MAX_FIELD_BYTES = 1 << 16
MAX_FIELDS = 32
OVERHEAD_BYTES = 1 << 20
"""Bytes that a form may take besides its file: fields, boundaries, headers."""
UPLOAD_SECONDS = 120.0
"""Time after which a body is refused: it would hold memory for nothing."""


@dataclass
class Upload:
    picture: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)


async def read_upload(request: web.Request, max_bytes: int) -> Upload:
    """Read the form's picture and text fields, the query's included: a field counts the same in both. Refuses with 413
    as soon as the limit is certain to be passed."""
    if request.content_type != "multipart/form-data":
        raise ApiError(
            415,
            "unsupported_media_type",
            f"send multipart/form-data with the picture in field 'file'; got {request.content_type}",
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "send the form as it is, without Content-Encoding")
    if (request.content_length or 0) > max_bytes + OVERHEAD_BYTES:
        raise _too_large(max_bytes)
    try:
        async with _in_time():
            return await _read_parts(request, max_bytes)
    except (ValueError, RuntimeError, AssertionError, LookupError, HttpProcessingError) as error:
        # What aiohttp's reader raises on bodies that are no multipart after all.
        reason = str(error)[:200] or type(error).__name__
        raise ApiError(400, "malformed_multipart", f"the form can't be read: {reason}") from error


async def _read_parts(request: web.Request, max_bytes: int) -> Upload:
    upload = Upload()
    for name, text in request.query.items():
        _add(upload.fields, name[:64], text)
    reader = await request.multipart()
    count = 0
    while (part := await reader.next()) is not None:
        count += 1
        if count > MAX_FIELDS:
            raise ApiError(400, "too_many_fields", f"the form has more than {MAX_FIELDS} fields")
        if not isinstance(part, BodyPartReader):
            raise ApiError(400, "malformed_multipart", "the form has a multipart inside a field")
        name = part.name or ""
        if name in FILE_FIELDS:
            if upload.picture is not None:
                raise ApiError(
                    400, "two_files", "the form has two pictures; send one request each", param=name
                )
            upload.picture = await _bytes(part, max_bytes, _too_large(max_bytes))
        else:
            shown = name[:64] or "(unnamed)"
            large = ApiError(413, "field_too_large", f"field {shown} is too large", param=shown)
            data = await _bytes(part, MAX_FIELD_BYTES, large)
            try:
                text = data.decode()
            except UnicodeDecodeError:
                raise ApiError(400, "not_utf8", f"field {shown} is not UTF-8 text", param=shown) from None
            _add(upload.fields, shown, text)
    if not reader.at_eof():
        raise ApiError(400, "malformed_multipart", "the form ends before its last boundary")
    return upload


def _add(fields: dict[str, str], name: str, text: str) -> None:
    if fields.setdefault(name, text) != text:
        raise ApiError(422, "invalid_value", f"{name} is given twice, with two values", param=name)


async def _bytes(part: BodyPartReader, limit: int, too_large: ApiError) -> bytes:
    if part.headers.get("Content-Transfer-Encoding", "binary").lower() not in {"binary", "8bit", "7bit"}:
        raise ApiError(400, "unsupported_encoding", "send the field's bytes as they are, not encoded")
    data = bytearray()
    while chunk := await part.read_chunk(1 << 18):
        data += chunk
        if len(data) > limit:
            raise too_large
    return bytes(data)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, "upload_too_large", f"uploads may have {max_bytes} bytes", param="file")


async def read_json(request: web.Request, max_bytes: int) -> bytearray:
    """Read a JSON body within `max_bytes`, without parsing it."""
    if request.content_type != "application/json":
        raise ApiError(415, "unsupported_media_type", f"send application/json; got {request.content_type}")
    return await read_body(request, max_bytes)


async def read_body(request: web.Request, max_bytes: int) -> bytearray:
    """Read a body within `max_bytes`, whatever its type. Refuses with 413 as soon as the limit is certain to be
    passed."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ApiError(415, "unsupported_encoding", "send the body as it is, without Content-Encoding")
    large = ApiError(413, "body_too_large", f"the body may have {max_bytes} bytes")
    if (request.content_length or 0) > max_bytes:
        raise large
    body = bytearray()
    async with _in_time():
        async for chunk in request.content.iter_chunked(1 << 18):
            body += chunk
            if len(body) > max_bytes:
                raise large
    return body


async def is_empty(request: web.Request) -> bool:
    """Return whether the body has no byte; one that has is of no use afterwards."""
    async with _in_time():
        return not await request.content.readany()


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            yield
    except TimeoutError:
        raise ApiError(408, "upload_timeout", f"the upload took more than {UPLOAD_SECONDS:g} s") from None
