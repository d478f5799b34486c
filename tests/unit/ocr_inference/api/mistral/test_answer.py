"""Pages as Mistral's clients read them."""

import base64
import json

import msgspec

from ocr_inference.api.mistral import answer, body
from ocr_inference.api.mistral.answer import Read
from ocr_inference.api.reading import ReadPage
from ocr_inference.api.schema import Dimensions, OcrAnswer
from ocr_inference.errors import ApiError
from ocr_wire.tasks import Task

FIGURES = (
    "# A\n\n![figure](#xywh=10,20,30,40)\ncaption\n\n![image](#xywh=90,0,500,12)\n\n![seal](#xywh=0,0,3,9)"
)


def read(text: str, *parts: bytes) -> Read:
    page = OcrAnswer(
        text=text,
        raw_text="",
        boxes=(),
        image_dims=Dimensions(100, 200),
        prompt_type=Task.DOCUMENT,
        metadata={},
    )
    return Read(page, parts)


def written(*pages: ReadPage[Read], **fields: object) -> answer.DocumentOfPages:
    asked = {"document": {"type": "file", "file_id": "f"}, **fields}
    return answer.whole(pages, body.parse(json.dumps(asked).encode()), "m", 7)


def test_pictures_are_named_through_the_document_and_stay_on_their_page() -> None:
    whole = written(ReadPage(0, read(FIGURES)), ReadPage(1, read("![chart](#xywh=1,2,3,4)")))
    first, second = whole.pages
    assert first.markdown == (
        "# A\n\n![img-0.jpeg](img-0.jpeg)\ncaption\n\n![img-1.jpeg](img-1.jpeg)\n\n![img-2.jpeg](img-2.jpeg)"
    )
    places = [(i.top_left_x, i.top_left_y, i.bottom_right_x, i.bottom_right_y) for i in first.images]
    assert places == [(10, 20, 40, 60), (90, 0, 100, 12), (0, 0, 3, 9)]
    assert [image.id for image in second.images] == ["img-3.jpeg"]


def test_few_and_large_pictures_can_be_asked_for() -> None:
    large = written(ReadPage(0, read(FIGURES)), image_min_size=10).pages[0]
    assert [image.id for image in large.images] == ["img-0.jpeg", "img-1.jpeg"]
    assert "seal" not in large.markdown
    pages = written(ReadPage(0, read(FIGURES)), ReadPage(1, read(FIGURES)), image_limit=4).pages
    assert [len(page.images) for page in pages] == [3, 1]
    assert answer.places(read(FIGURES).answer, 10, 100) == ((10, 20, 40, 60), (90, 0, 100, 12))


def test_pictures_are_sent_where_they_were_cut_out() -> None:
    (page,) = written(ReadPage(0, read(FIGURES, b"one", b"two"))).pages
    urls = [image.image_base64 for image in page.images]
    assert urls == [
        f"data:image/jpeg;base64,{base64.b64encode(part).decode()}" for part in (b"one", b"two")
    ] + [None]


def test_a_page_that_was_not_read_says_why() -> None:
    whole = written(ReadPage(0, read("x"), dpi=143.6), ReadPage(1, error=ApiError(422, "bad", "it is bad")))
    assert msgspec.json.decode(msgspec.json.encode(whole)) == {
        "pages": [
            {
                "index": 0,
                "markdown": "x",
                "images": [],
                "dimensions": {"dpi": 144, "height": 200, "width": 100},
            },
            {
                "index": 1,
                "markdown": "",
                "images": [],
                "dimensions": None,
                "error": {
                    "message": "it is bad",
                    "type": "invalid_request_error",
                    "code": "bad",
                    "param": None,
                    "suggestions": [],
                },
            },
        ],
        "model": "m",
        "usage_info": {"pages_processed": 1, "doc_size_bytes": 7},
        "document_annotation": None,
    }


def test_errors_count_pages_as_this_dialect_does() -> None:
    def message(words: str) -> str:
        page = answer.counted_from_0(ReadPage(5, error=ApiError(422, "invalid_page", words)))
        assert page.error is not None
        return page.error.message

    assert message("page 6 has no size") == "page 5, counted from 0, has no size"
    assert message("the worker died") == "the worker died"
