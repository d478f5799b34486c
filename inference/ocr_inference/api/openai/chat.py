"""Chat completions in OpenAI's shape: what a request asks of a page (`answer` writes the answer).

The last user turn is the request; the page is its picture, or the nearest earlier user turn's. Its text is the prompt,
word for word, unless the extra object `ocr` names a task. Decoding is greedy. Fields that were sent and have no effect
are named in the answer (`ignored`), not refused: clients send sampling parameters whether they matter or not. What
would change the answer's kind (several answers, JSON by schema) is refused by name, and so is what `ocr` doesn't have:
it was meant to say what is to be done.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from ocr_inference.api import mistaken, schema
from ocr_inference.api.schema import MAX_PROMPT, MAX_TERM, MAX_TOKENS, OcrRequest
from ocr_inference.errors import ApiError
from ocr_wire.tasks import INFO, Task

MAX_MESSAGES = 256
MAX_PARTS = 64
MAX_PICTURES = 8
"""Most pictures of a turn."""
MAX_STOPS = 4
"""As many as OpenAI allows."""
MAX_STOP = 256
MAX_COMMAS = 100_000
"""Most commas in a body: each value in it but the first of an array or object has one before it, and base64 has none.
So a few megabytes of `1,1,1` don't become gigabytes of values."""
MAX_IGNORED = 64
"""Most names of fields without effect in an answer; each is cut, too."""

_T = TypeVar("_T")


# --- the request's shape --------------------------------------------------------------------------------------


class ChatImage(Struct, frozen=True):
    url: str
    detail: Annotated[str, Meta(max_length=64)] | None = None
    """Of no effect: a model chooses a page's size, or `ocr.resolution` does."""


class ChatPart(Struct, frozen=True):
    type: Annotated[str, Meta(max_length=64)]
    text: str | None = None
    image_url: ChatImage | str | None = None


class ChatMessage(Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[tuple[ChatPart, ...], Meta(max_length=MAX_PARTS)] | None = None


class StreamOptions(Struct, frozen=True):
    include_usage: bool | None = None


class ResponseFormat(Struct, frozen=True):
    type: Annotated[str, Meta(max_length=64)] = "text"


class ChatOptions(Struct, frozen=True):
    """Extra object `ocr`: what `POST /ocr` has as form fields."""

    task: Annotated[str, Meta(max_length=64)] | None = None
    resolution: Annotated[str, Meta(max_length=64)] | None = None
    find_term: Annotated[str, Meta(max_length=MAX_TERM)] | None = None
    grounding: bool | None = None
    loop_guard: bool | None = None


class ChatBody(Struct, frozen=True):
    messages: Annotated[tuple[ChatMessage, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
    model: Annotated[str, Meta(max_length=200)] | None = None
    ocr: ChatOptions | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    stop: str | Annotated[tuple[str, ...], Meta(max_length=MAX_STOPS)] | None = None
    n: int | None = None
    logprobs: bool | None = None
    response_format: ResponseFormat | None = None


# --- what it asks for -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    url: str
    """As it was sent."""
    param: str
    """Its path in the request: `messages[0].content[1].image_url.url`."""
    unused: tuple[str, ...] = ()
    """Paths of what has no effect on it."""


@dataclass(frozen=True)
class ChatRequest:
    asked: OcrRequest
    pictures: tuple[Picture, ...]
    """At least one; the first one's pixels are those of the answer."""
    prompt_param: str | None = None
    """Path of the prompt, where it makes the task."""
    wants_parsed: bool = False
    """Whether `ocr` was sent, and so the parsed answer is wanted beside the raw one."""
    stream: bool = False
    include_usage: bool = False
    stop: tuple[str, ...] = ()

    @property
    def picture(self) -> str:
        return self.pictures[0].url

    @property
    def picture_param(self) -> str:
        return self.pictures[0].param

    def without_urls(self) -> "ChatRequest":
        """Return it without what may be larger than the pictures, since it may wait for long."""
        return replace(self, pictures=tuple(replace(each, url="") for each in self.pictures))

    def param(self, field: str | None) -> str | None:
        """Return the path in this request of a field of `POST /ocr`: engines know only those."""
        match field:
            case "file":
                return self.picture_param
            case "custom_prompt":
                return self.prompt_param or "messages"
            case "prompt_type":
                return "ocr.task"
            case "find_term" | "resolution" | "grounding" | "loop_guard":
                return f"ocr.{field}"
        return field


def parse(body: bytes | bytearray) -> ChatRequest:
    """Parse a body; raises `ApiError` that names the field by its JSON path."""
    if body.count(b",") > MAX_COMMAS:
        raise ApiError(413, "body_too_large", f"the body has more than {MAX_COMMAS} values")
    fields = _decoded(body, dict[str, Raw])
    sent = _decoded(body, ChatBody)
    _refuse_unsupported(sent)
    prompt, prompt_at, pictures, unused = _turn(sent.messages)
    options = sent.ocr or ChatOptions()
    ignored = [name for name in fields if name not in ChatBody.__struct_encode_fields__]
    own = () if sent.ocr is None else tuple(_decoded(fields["ocr"], dict[str, Raw]))
    mistaken.refuse(ignored, own, ChatOptions.__struct_encode_fields__)
    if sent.temperature:
        ignored.append("temperature")
    if sent.max_tokens is not None and sent.max_completion_tokens is not None:
        ignored.append("max_tokens")
    task = _task(options, prompt)
    if task is not Task.FREEFORM and prompt is not None:
        unused = (*unused, prompt_at)
    if task is not Task.FIND and options.find_term:
        ignored.append("ocr.find_term")
    return ChatRequest(
        asked=OcrRequest(
            task=task,
            find_term=(options.find_term or "").strip() or None,
            custom_prompt=prompt if task is Task.FREEFORM else None,
            grounding=bool(options.grounding),
            resolution=schema.resolution(options.resolution, "ocr.resolution"),
            max_tokens=sent.max_completion_tokens or sent.max_tokens,
            loop_guard=options.loop_guard is not False,
            model=sent.model or None,
            ignored=_shown((*ignored, *unused)),
        ),
        pictures=tuple(pictures),
        prompt_param=prompt_at if options.task is None and prompt is not None else None,
        wants_parsed=sent.ocr is not None,
        stream=bool(sent.stream),
        include_usage=bool(sent.stream_options and sent.stream_options.include_usage),
        stop=_stops(sent.stop),
    )


def with_query(chat: ChatRequest, names: Iterable[str]) -> ChatRequest:
    """Return `chat` with the names of query parameters, which have no effect: some clients send `api-version`, say."""
    ignored = _shown((*chat.asked.ignored, *(f"query.{name}" for name in names)))
    return replace(chat, asked=replace(chat.asked, ignored=ignored))


def fitted(chat: ChatRequest, tasks: Sequence[Task]) -> ChatRequest:
    """Return `chat` for a model that can do `tasks`. A model that follows no prompt reads every line, and the answer
    names the prompt as ignored: some clients send a prompt with every picture, so it isn't refused."""
    if chat.prompt_param is None or Task.FREEFORM in tasks:
        return chat
    ignored = _shown((*chat.asked.ignored, chat.prompt_param))
    return replace(
        chat,
        asked=replace(chat.asked, task=Task.OCR, custom_prompt=None, ignored=ignored),
        prompt_param=None,
    )


def _task(options: ChatOptions, prompt: str | None) -> Task:
    if options.task is None and (options.find_term or "").strip():
        return Task.FIND
    if options.task is None:
        return Task.FREEFORM if prompt is not None else Task.DOCUMENT
    task = schema.task(options.task, "ocr.task")
    if INFO[task].needs == "find_term" and not (options.find_term or "").strip():
        raise _invalid(f"task {task.value!r} needs find_term", "ocr.find_term")
    if INFO[task].takes_prompt and prompt is None:
        raise _invalid("task 'freeform' needs a text in the last user turn: it is the prompt", "messages")
    return task


def _turn(messages: Sequence[ChatMessage]) -> tuple[str | None, str, list[Picture], tuple[str, ...]]:
    """Return the prompt, its path, the pictures, and the paths of turns without effect."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if not users:
        raise _invalid("messages has no user turn: send the picture in one", "messages")
    last = users[-1]
    prompt = _text(messages[last], f"messages[{last}].content")
    for index in reversed(users):
        if pictures := _pictures(messages[index], index):
            break
    else:
        raise ApiError(
            422,
            "missing_image",
            "the user turns have no picture: send one as {type: image_url, image_url: {url: data:…}}",
            param="messages",
        )
    if len(pictures) > MAX_PICTURES:
        message = f"the user turn has {len(pictures)} pictures; {MAX_PICTURES} are read at a time"
        raise ApiError(422, "several_images", message, param=pictures[MAX_PICTURES].param)
    unused = tuple(each for picture in pictures for each in picture.unused)
    unused += tuple(f"messages[{each}]" for each in range(len(messages)) if each not in (index, last))
    if index != last and _text(messages[index], f"messages[{index}].content") is not None:
        unused = (*unused, f"messages[{index}].content")
    return prompt, f"messages[{last}].content", pictures, unused


def _text(message: ChatMessage, at: str) -> str | None:
    """Return the turn's text as it was sent; several parts become lines."""
    if isinstance(message.content, str):
        text = message.content
    else:
        text = "\n".join(part.text for part in message.content or () if part.type == "text" and part.text)
    if len(text) > MAX_PROMPT:
        raise _invalid(f"the text has {len(text)} characters; {MAX_PROMPT} are allowed", at)
    return text if text.strip() else None


def _pictures(message: ChatMessage, index: int) -> list[Picture]:
    """Return the turn's pictures; a part of a kind that isn't read here is refused."""
    pictures: list[Picture] = []
    parts = () if isinstance(message.content, str) else message.content or ()
    for number, part in enumerate(parts):
        at = f"messages[{index}].content[{number}]"
        match part.type, part.image_url:
            case "text", _:
                if part.text is None:
                    raise _invalid("a part of type text needs text", f"{at}.text")
            case "image_url", None:
                raise _invalid("a part of type image_url needs image_url: {url: data:…}", f"{at}.image_url")
            case "image_url", ChatImage(url, detail):
                unused = (f"{at}.image_url.detail",) if detail == "low" else ()
                pictures.append(Picture(url, f"{at}.image_url.url", unused))
            case "image_url", str() as url:
                pictures.append(Picture(url, f"{at}.image_url"))
            case other, _:
                known = "there are text and image_url; documents are read by POST /v1/ocr"
                raise _invalid(f"no part of type {other[:40]!r} is read here; {known}", f"{at}.type")
    return pictures


def _refuse_unsupported(sent: ChatBody) -> None:
    if sent.n not in (None, 1):
        raise _unsupported("n can only be 1: decoding is greedy, so every answer would be the same", "n")
    if sent.logprobs:
        raise _unsupported("logprobs aren't answered", "logprobs")
    if sent.response_format is not None and sent.response_format.type != "text":
        message = f"response_format {sent.response_format.type[:40]!r} can't be kept to; only text can"
        raise _unsupported(message, "response_format")


def _stops(stop: str | tuple[str, ...] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else stop or ()
    for each in stops:
        if not 1 <= len(each) <= MAX_STOP:
            raise _invalid(f"a stop text has 1 to {MAX_STOP} characters, not {len(each)}", "stop")
    return stops


def _shown(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({name[:64] for name in names})[:MAX_IGNORED])


def _invalid(message: str, param: str | None) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)


def _unsupported(message: str, param: str) -> ApiError:
    return ApiError(422, "unsupported", message, param=param)


_AT = re.compile(r"^(?P<message>.*?) - at (?:`key` in )?`\$\.?(?P<path>.*)`$", re.DOTALL)


def _decoded(body: bytes | bytearray | Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        message = found["message"] if found else str(error)
        raise _invalid(message[:1].lower() + message[1:300], found["path"] if found else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"the body is no valid JSON: {str(error)[:200]}") from None
