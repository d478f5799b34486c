"""The tools: what they take, and what they do. Each obeys the token that its HTTP call obeys."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from ocr_inference.api import middleware, pages, reading, schema
from ocr_inference.api.appkeys import CONFIG, LIVE_SETTINGS, MANAGER
from ocr_inference.api.bodies import Reserved
from ocr_inference.api.control import health
from ocr_inference.api.mcp.sent import Sent
from ocr_inference.api.ocr import whole
from ocr_inference.api.openai import models
from ocr_inference.api.schema import MAX_PROMPT, MAX_TERM, MAX_TOKENS, DocumentAnswer, OcrAnswer, OcrRequest
from ocr_inference.documents import selection
from ocr_inference.documents.page import DPI, MAX_DPI, MIN_DPI
from ocr_inference.documents.selection import ALL, Selection
from ocr_inference.errors import ApiError
from ocr_wire import checked
from ocr_wire.checked import Unknown
from ocr_wire.settings import MAX_SECONDS, NEVER
from ocr_wire.tasks import INFO, RESOLUTIONS, Task
from ocr_wire.text import shown

Progress = Callable[[float, float | None, str | None], Awaitable[None]]
"""Tells the client how far a call is: so many of so many, in words."""


@dataclass(frozen=True)
class Caller:
    """Client of one call."""

    request: web.Request
    sent: Sent
    reserved: Reserved

    @property
    def app(self) -> web.Application:
        return self.request.app


@dataclass(frozen=True)
class Result:
    text: str
    """For a model to read."""
    data: Mapping[str, Any]
    """For a program."""


# --- what they take -------------------------------------------------------------------------------------------

_Name = Annotated[str, Meta(max_length=200)]
_Pages = Annotated[str, Meta(max_length=selection.MAX_CHARACTERS)]
_Model = Annotated[_Name | None, Meta(description="One of list_models. Left out: the first one of them.")]
_OneModel = Annotated[_Name | None, Meta(description="One of list_models. Left out: all of them.")]


class _Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Reading(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    task: Annotated[
        Task | None,
        Meta(
            description="document: Markdown. ocr: each line with its box. free: plain text. find: where find_term"
            " stands. Others need a language model: figure, describe, freeform. Left out: document, or what find_term"
            " or prompt are for."
        ),
    ] = None
    find_term: Annotated[
        Annotated[str, Meta(max_length=MAX_TERM)] | None, Meta(description="What task find looks for.")
    ] = None
    prompt: Annotated[
        Annotated[str, Meta(max_length=MAX_PROMPT)] | None,
        Meta(description="Prompt of task freeform, word for word."),
    ] = None
    resolution: Annotated[
        _Name | None, Meta(description=f"Page size of DeepSeek-OCR: {', '.join(RESOLUTIONS)}.")
    ] = None
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None, Meta(description="Bound of the answer.")
    ] = None
    model: _Model = None


class _Image(_Reading, frozen=True, forbid_unknown_fields=True, kw_only=True):
    image: Annotated[
        str,
        Meta(
            description="The picture (PNG, JPEG, WebP, TIFF, BMP, GIF) as a data URL in base64.",
            extra_json_schema={"contentEncoding": "base64"},
        ),
    ]


class _Pdf(_Reading, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pdf: Annotated[
        str,
        Meta(
            description="The PDF, or a TIFF of many pages, as a data URL in base64.",
            extra_json_schema={"contentEncoding": "base64"},
        ),
    ]
    pages: Annotated[_Pages | None, Meta(description="Which pages: 1-3,7 or 5-. Left out: all of them.")] = (
        None
    )
    dpi: Annotated[
        float, Meta(ge=MIN_DPI, le=MAX_DPI, description="Pixels per inch at which pages are drawn.")
    ] = DPI


class _OfModel(Struct, frozen=True, forbid_unknown_fields=True):
    model: _Model = None


class _OfModels(Struct, frozen=True, forbid_unknown_fields=True):
    model: _OneModel = None


class _Timeout(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    timeout_seconds: Annotated[
        float, Meta(ge=NEVER, le=MAX_SECONDS, description="Idle seconds; 0: at once, -1: never.")
    ]
    model: _OneModel = None


# --- what they do ---------------------------------------------------------------------------------------------


async def _ocr_image(caller: Caller, sent: _Image, progress: Progress) -> Result:
    return await _read(caller, _asked(sent), sent.image, "image", progress)


async def _ocr_pdf(caller: Caller, sent: _Pdf, progress: Progress) -> Result:
    pages = ALL if sent.pages is None else Selection.parse(sent.pages)
    return await _read(caller, replace(_asked(sent), pages=pages, dpi=sent.dpi), sent.pdf, "pdf", progress)


async def _read(caller: Caller, asked: OcrRequest, document: str, param: str, progress: Progress) -> Result:
    await middleware.check_call(caller.request)
    caller.app[MANAGER].refuse_when_full()
    reader = reading.Reader.of(caller.app, asked, "task")
    with caller.reserved.file() as short:
        file = caller.sent.fill(document, short, param)
        async with reading.opened(caller.app, file, param) as opened:
            wanted = len(opened.indices(asked.pages, asked.dpi))
            if not opened.is_rendered:
                return _of_page(await reader.page(file))
            await progress(0, wanted, None)
            read = []
            async with aclosing(reader.pages(opened)) as pages:
                async for page in pages:
                    read.append(page)
                    await progress(len(read), wanted, f"page {page.index + 1} of {opened.count}")
    reading.refuse_unread(read)
    return _of_document(whole.answer(read, opened.count))


async def _list_models(caller: Caller, _: _Nothing, __: Progress) -> Result:
    found = models.listed(caller.app)
    lines = [f"{each['id']} ({each['engine']}): {each['state']}, on {each['location']}" for each in found]
    return Result("\n".join(lines), {"models": found})


async def _get_gpu_status(caller: Caller, sent: _OfModel, _: Progress) -> Result:
    return _status(caller, sent.model)


async def _offload_gpu(caller: Caller, sent: _OfModels, _: Progress) -> Result:
    await middleware.check_control(caller.request)
    await caller.app[MANAGER].offload(_known(caller, sent.model))
    return _status(caller, sent.model)


async def _release_gpu(caller: Caller, sent: _OfModels, _: Progress) -> Result:
    await middleware.check_control(caller.request)
    await caller.app[MANAGER].release(_known(caller, sent.model))
    return _status(caller, sent.model)


async def _update_gpu_timeout(caller: Caller, sent: _Timeout, _: Progress) -> Result:
    await middleware.check_control(caller.request)
    if NEVER < sent.timeout_seconds < 0:
        raise _invalid("timeout_seconds is seconds from 0, or -1 for never", "timeout_seconds")
    caller.app[LIVE_SETTINGS].set_timeout(_known(caller, sent.model), sent.timeout_seconds)
    return _status(caller, sent.model)


def _asked(sent: _Reading) -> OcrRequest:
    task = schema.meant(sent.find_term, sent.prompt, "task") if sent.task is None else sent.task
    needs = {"find_term": "find_term", "custom_prompt": "prompt"}.get(INFO[task].needs or "")
    if needs is not None and not (getattr(sent, needs) or "").strip():
        raise _invalid(f"task {task.value!r} needs {needs}", needs)
    return OcrRequest(
        task=task,
        find_term=(sent.find_term or "").strip() or None,
        custom_prompt=sent.prompt,
        resolution=schema.resolution(sent.resolution, "resolution"),
        max_tokens=sent.max_tokens,
        model=sent.model or None,
    )


def _of_page(answer: OcrAnswer) -> Result:
    return Result(answer.text, _data(answer))


def _of_document(answer: DocumentAnswer) -> Result:
    """Return what stands on all pages, and which ones couldn't be read."""
    data = _data(answer)
    del data["text"]
    for page in data["pages"]:
        page.pop("raw_text", None)
    return Result("\n\n".join((answer.text, *answer.errors)), data)


def _data(answer: OcrAnswer) -> dict[str, Any]:
    """Return an answer without what models read elsewhere."""
    data: dict[str, Any] = msgspec.to_builtins(answer)
    del data["raw_text"], data["success"]
    return data


def _known(caller: Caller, name: str | None) -> str | None:
    return None if name is None else pages.choose_model(caller.app[CONFIG], name).name


def _status(caller: Caller, name: str | None) -> Result:
    app = caller.app
    model = pages.choose_model(app[CONFIG], name).name
    found = msgspec.to_builtins(health.status(app[MANAGER], app[LIVE_SETTINGS].effective, model))
    return Result("\n".join(f"{key}: {value}" for key, value in found.items()), found)


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)


# --- all of them ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tool:
    name: str
    title: str
    description: str
    takes: type[Struct]
    run: Callable[[Caller, Any, Progress], Awaitable[Result]]
    changes: bool = False
    """Whether it changes what the server holds."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments: an object, with what it refers to inside it."""
        (_,), components = msgspec.json.schema_components([self.takes], ref_template="#/$defs/{name}")
        found = components.pop(self.takes.__name__)
        del found["title"]
        return {**found, "$defs": components} if components else found


TOOLS: Final = (
    Tool("ocr_image", "Read a picture", "Reads the text of one picture of a page.", _Image, _ocr_image),
    Tool(
        "ocr_pdf",
        "Read a PDF",
        "Reads the text of a PDF, page by page. Pages that can't be read are named behind the text of the others.",
        _Pdf,
        _ocr_pdf,
    ),
    Tool(
        "list_models",
        "List the models",
        "Lists the models that can read, and where the weights of each are: gpu, cpu or unloaded.",
        _Nothing,
        _list_models,
    ),
    Tool(
        "get_gpu_status",
        "Look at the GPU",
        "Tells where a model's weights are, how long it has been idle, its idle timeout, and the GPU's memory in MiB.",
        _OfModel,
        _get_gpu_status,
    ),
    Tool(
        "offload_gpu",
        "Offload to host memory",
        "Moves weights from the GPU to host memory, once running requests are done. The next page takes them back.",
        _OfModels,
        _offload_gpu,
        changes=True,
    ),
    Tool(
        "release_gpu",
        "Unload",
        "Drops weights from the GPU and from host memory, once running requests are done. The next page loads them.",
        _OfModels,
        _release_gpu,
        changes=True,
    ),
    Tool(
        "update_gpu_timeout",
        "Set the idle timeout",
        "Sets after how many idle seconds weights leave the GPU, until newer settings are declared.",
        _Timeout,
        _update_gpu_timeout,
        changes=True,
    ),
)


async def call(caller: Caller, name: str, arguments: Mapping[str, Any], progress: Progress) -> Result:
    """Run a tool; raises what its HTTP call raises, and `ApiError` for arguments that it doesn't take."""
    tool = next((each for each in TOOLS if each.name == name), None)
    if tool is None:
        there = ", ".join(each.name for each in TOOLS)
        raise ApiError(404, "unknown_tool", f"no tool {shown(name)!r} here; there are {there}")
    known = tool.takes.__struct_encode_fields__
    for each in arguments:
        if each not in known:
            there = f"there are {', '.join(known)}" if known else "it takes none"
            message = f"{name} has no argument {shown(each)!r}{Unknown('', each[:64], known).hint}; {there}"
            raise ApiError(422, "unknown_field", message, param=shown(each))
    try:
        sent = msgspec.convert(arguments, tool.takes)
    except msgspec.ValidationError as error:
        fault = checked.invalid(error)
        raise ApiError(422, "invalid_value", f"{name}: {shown(str(fault))}", param=fault.at or None) from None
    return await tool.run(caller, sent, progress)
