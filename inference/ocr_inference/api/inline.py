"""JSON bodies with a picture in them: read as they arrive, the picture into a file of its own."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from aiohttp import web

from ocr_inference.api import dataurl, forms
from ocr_inference.api.appkeys import CONFIG
from ocr_inference.api.bodies import Reserved
from ocr_inference.api.diversion import Diversion
from ocr_inference.protocol.engine import Part
from ocr_inference.protocol.page_file import PageFile

SHORT_BYTES: Final = 1 << 16
"""Bytes of JSON up to which it is parsed on the loop: a thread would cost more."""
COPY_BYTES: Final = 1 << 20
"""Bytes of a picture that are copied at a time."""


class Parsed(Protocol):
    """Request about one of the pictures in its body."""

    @property
    def picture(self) -> str:
        """URL as it was sent."""

    @property
    def picture_param(self) -> str:
        """Path of the picture in the body."""


class OnePicture(Protocol):
    """One of several pictures: its URL as it was sent, and its path in the body."""

    @property
    def url(self) -> str: ...
    @property
    def param(self) -> str: ...


class ParsedSeveral(Parsed, Protocol):
    """Request about pictures in its body, of which `picture` is the first one."""

    @property
    def pictures(self) -> Sequence[OnePicture]: ...


_T = TypeVar("_T", bound=Parsed)
_S = TypeVar("_S", bound=ParsedSeveral)


async def received(
    request: web.Request,
    reserved: Reserved,
    files: AsyncExitStack,
    parse: Callable[[bytearray], _T],
    *,
    long_text: int,
    bare: bool = False,
) -> tuple[_T, PageFile]:
    """Read the body and parse it; returns what is asked and the picture that is meant, alone in its file.

    `long_text` is the most characters of any text in it but a picture; with `bare`, a picture may be base64 alone.
    """
    body = await _read(request, files.enter_context(reserved.file()), long_text, bare=bare)
    return await _alone(body, await body.parsed(parse), reserved, files)


async def received_several(
    request: web.Request,
    reserved: Reserved,
    files: AsyncExitStack,
    parse: Callable[[bytearray], _S],
    *,
    long_text: int,
) -> tuple[_S, PageFile, tuple[Part, ...]]:
    """Read the body and parse it; returns what is asked, and its pictures in one file with their places. A picture that
    is the only one has the file for itself, and no place."""
    body = await _read(request, files.enter_context(reserved.file()), long_text)
    asked = await body.parsed(parse)
    if len(asked.pictures) == 1:
        return *(await _alone(body, asked, reserved, files)), ()
    parts = []
    for each in asked.pictures:
        url = body.found.place(each.url)
        if url is not None:
            url.decoder.check(each.param)
            parts.append((url.start, url.size))
        else:
            data = dataurl.decode(each.url, body.most, each.param)
            parts.append((body.store.size, len(data)))
            body.store.write(data)
    return asked, body.store, tuple(parts)


@dataclass(frozen=True)
class _Body:
    store: PageFile
    """What was taken out of the JSON."""
    found: Diversion
    most: int
    """Bytes of a picture."""
    bare: bool

    async def parsed(self, parse: Callable[[bytearray], _T]) -> _T:
        short = len(self.found.text) <= SHORT_BYTES
        return parse(self.found.text) if short else await asyncio.to_thread(parse, self.found.text)


async def _read(request: web.Request, store: PageFile, long_text: int, *, bare: bool = False) -> _Body:
    most = request.app[CONFIG].server.limits.max_upload_bytes
    found = Diversion(secrets.token_hex(16), store, most, long_text=long_text, bare=bare)
    await forms.copy_body(request, forms.most_json_bytes(most), found.add)
    return _Body(store, found, most, bare)


async def _alone(body: _Body, asked: _T, reserved: Reserved, files: AsyncExitStack) -> tuple[_T, PageFile]:
    store, url = body.store, body.found.place(asked.picture)
    if url is not None:
        url.decoder.check(asked.picture_param)
        if url.size == store.size:
            return asked, store
    picture = files.enter_context(reserved.file())
    if url is not None:
        await copy(store, (url.start, url.size), picture)
    else:
        picture.write(dataurl.decode(asked.picture, body.most, asked.picture_param, bare=body.bare))
    store.close()
    return asked, picture


async def copy(store: PageFile, part: Part, picture: PageFile) -> None:
    """Copy one of several pictures, in steps."""
    at, end = part[0], sum(part)
    while at < end:
        at += store.send(picture, at, min(end - at, COPY_BYTES))
        await asyncio.sleep(0)
