"""Requests in the shape of Mistral's document OCR: which document, which of its pages, what of them.

A document is a data URL or base64 in `document_url` or `image_url`, or a file that was uploaded before, by its id or by
the URL that `GET /v1/files/{id}/url` gave. Other URLs are refused: the server fetches nothing.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ocr_inference.api import jsonbody, mistaken, schema
from ocr_inference.api.schema import MAX_PROMPT, MAX_TERM, MAX_TOKENS, OcrRequest
from ocr_inference.documents.page import DPI, MAX_DPI, MIN_DPI
from ocr_inference.documents.selection import ALL, MAX_CHARACTERS, MAX_PAGE, Selection
from ocr_inference.errors import ApiError
from ocr_wire.tasks import INFO, Task

THEIRS: Final = "mistral-ocr-"
"""Names of Mistral's own models for this begin so."""
MAX_COMMAS: Final = 100_000
"""Most commas in a body: each value in it but the first of an array or object has one before it."""
MAX_IMAGES: Final = 1000
"""Most pictures of a document's pages that are answered."""
MAX_IGNORED: Final = 64
NOTHING: Final = "data:;base64,"
"""Picture of a request whose document was uploaded before."""
_FILE_URL: Final = re.compile(r"https?://[^/?#]*/v1/files/(file-[0-9a-f-]{1,64})(?:/content)?(?:[?#].*)?")

Word = Annotated[str, Meta(max_length=200)]


class Url(Struct, frozen=True):
    url: str


class DocumentUrl(Struct, frozen=True, tag_field="type", tag="document_url"):
    document_url: str
    document_name: str | None = None


class PictureUrl(Struct, frozen=True, tag_field="type", tag="image_url"):
    image_url: str | Url


class UploadedFile(Struct, frozen=True, tag_field="type", tag="file"):
    file_id: Annotated[str, Meta(max_length=128)]


class OcrOptions(Struct, frozen=True):
    """Extra object `ocr`: what `POST /ocr` has as form fields."""

    task: Word | None = None
    find_term: Annotated[str, Meta(max_length=MAX_TERM)] | None = None
    custom_prompt: Annotated[str, Meta(max_length=MAX_PROMPT)] | None = None
    grounding: bool | None = None
    resolution: Word | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    loop_guard: bool | None = None
    dpi: Annotated[float, Meta(ge=MIN_DPI, le=MAX_DPI)] | None = None


class DocumentBody(Struct, frozen=True):
    """DocumentBody of `POST /v1/ocr`."""

    document: DocumentUrl | PictureUrl | UploadedFile
    model: Word | None = None
    pages: (
        Annotated[str, Meta(max_length=MAX_CHARACTERS)]
        | Annotated[tuple[Annotated[int, Meta(ge=0, lt=MAX_PAGE)], ...], Meta(max_length=10_000)]
        | None
    ) = None
    """Counted from 0: `[0, 2]` or `0,2-4`."""
    include_image_base64: bool | None = None
    image_limit: Annotated[int, Meta(ge=0)] | None = None
    image_min_size: Annotated[int, Meta(ge=0)] | None = None
    """Pixels of both sides."""
    ocr: OcrOptions | None = None
    bbox_annotation_format: Any = None
    document_annotation_format: Any = None
    document_annotation_prompt: Any = None
    confidence_scores_granularity: Any = None
    table_format: Any = None
    extract_header: Any = None
    extract_footer: Any = None


REFUSED: Final = (
    *("bbox_annotation_format", "document_annotation_format", "document_annotation_prompt"),
    *("confidence_scores_granularity", "table_format", "extract_header", "extract_footer"),
)
"""Fields that would change what is answered, and can't be done."""


@dataclass(frozen=True)
class Request:
    """Request for a document, parsed."""

    asked: OcrRequest
    picture: str
    """Data URL or base64, as it was sent; `NOTHING` where `file_id` is set."""
    picture_param: str
    file_id: str | None
    include_image_base64: bool
    image_limit: int
    image_min_size: int


def parse(body: bytes | bytearray) -> Request:
    """Parse a body; raises `ApiError` that names the field by its JSON path."""
    if body.count(b",") > MAX_COMMAS:
        raise ApiError(413, "body_too_large", f"the body has more than {MAX_COMMAS} values")
    fields = jsonbody.decode(body, dict[str, msgspec.Raw])
    sent = jsonbody.decode(body, DocumentBody)
    for name in REFUSED:
        if getattr(sent, name) not in (None, False):
            raise ApiError(
                422,
                "unsupported",
                f"{name} isn't possible here: no model of this server can do it",
                param=name,
            )
    ignored = tuple(name for name in fields if name not in DocumentBody.__struct_encode_fields__)
    own = () if sent.ocr is None else tuple(jsonbody.decode(fields["ocr"], dict[str, msgspec.Raw]))
    mistaken.refuse(ignored, own, OcrOptions.__struct_encode_fields__)
    picture, param = _picture(sent.document)
    file_id = _file_id(sent.document, picture)
    return Request(
        asked=_asked(sent, tuple(name[:64] for name in ignored)),
        picture=NOTHING if file_id is not None else picture,
        picture_param=param,
        file_id=file_id,
        include_image_base64=bool(sent.include_image_base64),
        image_limit=MAX_IMAGES if sent.image_limit is None else min(sent.image_limit, MAX_IMAGES),
        image_min_size=sent.image_min_size or 0,
    )


def _asked(sent: DocumentBody, ignored: tuple[str, ...]) -> OcrRequest:
    options = sent.ocr or OcrOptions()
    task = _task(options)
    needs = INFO[task].needs
    if needs is not None and not (getattr(options, needs) or "").strip():
        raise ApiError(422, "invalid_value", f"task {task.value!r} needs {needs}", param=f"ocr.{needs}")
    return OcrRequest(
        task=task,
        find_term=(options.find_term or "").strip() or None,
        custom_prompt=options.custom_prompt or None,
        grounding=bool(options.grounding),
        resolution=schema.resolution(options.resolution, "ocr.resolution"),
        max_tokens=options.max_tokens,
        loop_guard=options.loop_guard is not False,
        model=sent.model or None,
        pages=_selection(sent.pages),
        dpi=options.dpi or DPI,
        ignored=ignored[:MAX_IGNORED],
        sent_as={"prompt_type": ("ocr.task",)},
    )


def for_models(request: Request, names: Collection[str]) -> Request:
    """Return the request for the default model where it names one of Mistral's own that isn't among `names`.

    Clients whose model can't be chosen send that one: Open WebUI writes `mistral-ocr-latest` whatever its settings are.
    """
    named = request.asked.model
    if named is None or named in names or not named.startswith(THEIRS):
        return request
    return replace(request, asked=replace(request.asked, model=None))


def _task(options: OcrOptions) -> Task:
    if options.task is not None:
        return schema.task(options.task, "ocr.task")
    return schema.meant(options.find_term, options.custom_prompt, "ocr.task")


def _selection(pages: str | tuple[int, ...] | None) -> Selection:
    if pages is None or pages in ("", ()):
        return replace(ALL, first=0)
    if isinstance(pages, tuple):
        return Selection.of_indices(pages)
    try:
        # The same grammar, but counted from 0.
        parsed = Selection.parse(re.sub(r"[0-9]{1,6}", lambda number: str(int(number[0]) + 1), pages))
        return replace(parsed, first=0)
    except ApiError:
        message = f"pages count from 0: a list such as [0, 2], or a text such as '0,2-4'; got {pages[:40]!r}"
        raise ApiError(422, "invalid_value", message, param="pages") from None


def _picture(document: DocumentUrl | PictureUrl | UploadedFile) -> tuple[str, str]:
    """Return the URL and its path in the body."""
    match document:
        case DocumentUrl(document_url=url):
            return url, "document.document_url"
        case PictureUrl(image_url=str() as url):
            return url, "document.image_url"
        case PictureUrl(image_url=Url(url)):
            return url, "document.image_url.url"
        case UploadedFile(file_id=file_id):
            return file_id, "document.file_id"
    raise AssertionError(document)


def _file_id(document: DocumentUrl | PictureUrl | UploadedFile, url: str) -> str | None:
    if isinstance(document, UploadedFile):
        return url
    found = _FILE_URL.fullmatch(url[:512])
    return None if found is None else found[1]
