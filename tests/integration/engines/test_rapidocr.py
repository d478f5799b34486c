"""OCR on the CPU by RapidOCR: the suite of all engines, and what is particular to this one."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocr_inference import engines
from ocr_inference.protocol.engine import (
    Engine,
    EngineError,
    InferRequest,
    ModelSpec,
    PageResult,
    SteppingEngine,
)
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire.engines import BY_NAME
from tests.support.engines import picture
from tests.support.enginesuite import EngineSuite, answer, heading
from tests.support.paths import INVOICE

pytest.importorskip("rapidocr")


SCRIPTS = {
    "Latn": [chr(code) for code in range(0xC0, 0x24F) if chr(code).isalpha()],
    "Cyrl": [chr(code) for code in range(0x410, 0x450)],
    "Grek": [*"αβγδεζηθικλμνξοπρστυφχψωάέήίόύώς"],
    "Hebr": [chr(code) for code in range(0x5D0, 0x5EB)],
    "Arab": [chr(code) for code in range(0x621, 0x64B)],
    "Hans": [bytes((row, at)).decode("gb2312") for row in range(0xB0, 0xD7) for at in range(0xA1, 0xFF)],
    "Hant": [bytes((row, at)).decode("big5") for row in range(0xA4, 0xC6) for at in range(0x40, 0x7F)],
    "Jpan": [chr(code) for start in (0x3041, 0x30A1) for code in range(start, start + 83)],
    "Kore": [chr(code) for code in range(0xAC00, 0xAD00)],
    "Thai": [chr(code) for code in range(0xE01, 0xE2F)],
    "Deva": [chr(code) for code in range(0x905, 0x93A)],
}
LINE = "The ferry leaves at noon and carries mail"
SPEC = ModelSpec(name="m", engine="rapidocr", options={"threads": 1})


def page(size: tuple[int, int], lines: list[tuple[tuple[int, int], str]], points: int) -> bytes:
    """Return a page with lines of text at places."""
    image = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(points)
    for place, text in lines:
        pen.text(place, text, "black", font)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def reader() -> Iterator[Engine]:
    """One for all pages: a page leaves nothing in it, and loading takes longer than reading."""
    host = HostTier.create("test")
    engine = engines.create(SPEC, host)
    engine.load()
    yield engine
    host.close()


class TestRapidOCR(EngineSuite):
    engine = "rapidocr"

    @pytest.fixture
    def spec(self) -> ModelSpec:
        return SPEC

    def test_rapidocr_reads_an_invoice(self, reader: Engine) -> None:
        result = answer(reader, InferRequest(image=INVOICE.read_bytes()))
        texts = [line.text for line in result.lines]
        assert {"INVOICE", "Harbour Paper Company", "504.50"} <= set(texts)
        assert result.text.splitlines() == texts
        for line in result.lines:
            assert 0.5 <= line.score <= 1
            assert all(0 <= x <= result.width and 0 <= y <= result.height for x, y in line.box)
            left, right = line.box[0][0], line.box[1][0]
            assert left < right

    def test_rapidocr_finds_the_same_boxes_on_a_turned_photo(self, reader: Engine) -> None:
        upright = answer(reader)
        exif = Image.Exif()
        exif[0x0112] = 8  # turn left by 90 degrees to look at it
        data = io.BytesIO()
        with Image.open(io.BytesIO(heading())) as image:
            image.transpose(Image.Transpose.ROTATE_270).save(data, "PNG", exif=exif)
        turned = answer(reader, InferRequest(image=data.getvalue()))
        assert (turned.text, turned.lines) == (upright.text, upright.lines)

    @pytest.mark.parametrize("size", [(1, 1), (3000, 20), (1, 6000), (2100, 2100)])
    def test_rapidocr_survives_odd_sizes(self, reader: Engine, size: tuple[int, int]) -> None:
        result = answer(reader, InferRequest(image=picture(*size)))
        assert (result.text, result.lines, (result.width, result.height)) == ("", (), size)

    def test_rapidocr_boxes_lie_on_the_text_of_a_thin_strip(self, reader: Engine) -> None:
        """Scaled down and up again, a thin strip must not move its boxes."""
        strip = Image.new("RGB", (3000, 36), "white")
        with Image.open(io.BytesIO(heading())) as image:
            word = next(line for line in answer(reader).lines if line.text == "INVOICE")
            left, top, right, bottom = (int(number) for number in (*word.box[0], *word.box[2]))
            strip.paste(image.crop((left, top, right, bottom)).resize((180, 36)), (2000, 0))
        data = io.BytesIO()
        strip.save(data, "PNG")
        (line,) = answer(reader, InferRequest(image=data.getvalue())).lines
        assert line.text == "INVOICE"
        assert abs(line.box[0][0] - 2000) < 40
        assert abs(line.box[1][0] - 2180) < 40
        assert line.box[2][1] <= 36

    def test_rapidocr_reads_a_line_alone_on_a_page(self, reader: Engine) -> None:
        result = answer(reader, InferRequest(image=page((1191, 1684), [((150, 160), "Page one fine")], 36)))
        assert result.text == "Page one fine"

    def test_rapidocr_reads_a_line_on_a_ground_that_is_not_even(self, reader: Engine) -> None:
        """As on a photograph of paper: nothing of such a page stands out from one ground."""
        shade = Image.linear_gradient("L").resize((900, 1200)).convert("RGB")
        ImageDraw.Draw(shade).text((200, 500), "on a gradient", "red", ImageFont.load_default(40))
        data = io.BytesIO()
        shade.save(data, "PNG")
        assert answer(reader, InferRequest(image=data.getvalue())).text == "on a gradient"

    def test_rapidocr_reads_a_number_in_a_corner(self, reader: Engine) -> None:
        """Beside the line, detection takes the number for a stain; by itself it is found."""
        lines = [((150, 160), "Page one fine"), ((1100, 1600), "7")]
        result = answer(reader, InferRequest(image=page((1191, 1684), lines, 36)))
        assert result.text.splitlines() == ["Page one fine", "7"]

    @pytest.mark.parametrize("degrees", [90, 180, 270, 30, -45])
    def test_rapidocr_reads_a_page_that_is_turned(self, reader: Engine, degrees: int) -> None:
        lines = [((60, 60 + 60 * at), f"{at} {LINE}") for at in range(4)]
        with Image.open(io.BytesIO(page((900, 360), lines, 28))) as image:
            turned = image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        data = io.BytesIO()
        turned.save(data, "PNG")
        result = answer(reader, InferRequest(image=data.getvalue()))
        assert result.text.splitlines() == [text for _, text in lines]
        for line in result.lines:
            (ax, ay), (bx, by) = line.box[:2]
            lean = math.degrees(math.atan2(by - ay, bx - ax)) - degrees
            assert abs((lean + 180) % 360 - 180) < 3, "corners begin at the text's top left"

    def test_rapidocr_reads_all_of_a_long_receipt(self, reader: Engine) -> None:
        lines = [((20, 20 + 80 * at), f"Item number {at}") for at in range(60)]
        result = answer(reader, InferRequest(image=page((420, 4850), lines, 24)))
        assert result.text.splitlines() == [text for _, text in lines]

    def test_rapidocr_knows_the_letters_of_the_scripts_that_it_names(self) -> None:
        """The table says what the characters of its model say."""
        import onnxruntime
        import rapidocr

        from ocr_inference.engines.rapidocr.engine import MODELS

        file = Path(rapidocr.__file__).parent / "models" / MODELS["Rec"]
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        known = set(session.get_modelmeta().custom_metadata_map["character"].splitlines())
        read = [code for code, letters in SCRIPTS.items() if len(known & set(letters)) >= 0.98 * len(letters)]
        assert tuple(read) == BY_NAME["rapidocr"].scripts

    def test_pages_that_are_read_together_are_read_as_alone(self) -> None:
        pages = [
            heading(),
            page((1191, 1684), [((150, 160), "Page one fine"), ((1100, 1600), "7")], 36),
            page((900, 360), [((60, 60 + 60 * at), f"{at} {LINE}") for at in range(4)], 28),
            picture(),
        ]
        requests = [InferRequest(image=data) for data in pages]
        host = HostTier.create("test")
        engine = engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": 2}), host)
        engine.load()
        alone = [answer(engine, request) for request in requests]
        assert isinstance(engine, SteppingEngine)
        for number in (1, 2):
            engine.admit(number, requests[0])
        assert engine.free_slots == 0, "two at a time"
        engine.offload()
        engine.restore()
        assert engine.free_slots == 2, "an offload waits for pages and drops them"
        together = engine.infer([*requests, *requests[::-1]])
        for result, single in zip(together, [*alone, *alone[::-1]], strict=True):
            assert isinstance(result, PageResult)
            assert (result.text, result.lines) == (single.text, single.lines)
        host.close()

    @pytest.mark.parametrize(("threads", "wanted", "slots"), [(1, 2, 1), (2, 1, 1), (2, 16, 2), (8, 2, 2)])
    def test_no_more_pages_at_a_time_than_threads(
        self, host: HostTier, threads: int, wanted: int, slots: int
    ) -> None:
        spec = ModelSpec(name="m", engine="rapidocr", options={"threads": threads, "max_batch": wanted})
        engine = engines.create(spec, host)
        assert isinstance(engine, SteppingEngine)
        assert engine.free_slots == slots

    def test_pictures_are_to_the_models_what_rapidocr_makes_of_them(self) -> None:
        """Bit by bit: answers depend on it."""
        from rapidocr import RapidOCR
        from rapidocr.ch_ppocr_det.utils import DetPreProcess
        from rapidocr.ch_ppocr_rec import TextRecInput

        from ocr_inference.engines.rapidocr import inputs
        from ocr_inference.engines.rapidocr.texts import Texts

        chance = np.random.default_rng(1)
        pixels = chance.integers(0, 256, (96, 320, 3), np.uint8)
        theirs = DetPreProcess(limit_side_len=32)(pixels)
        assert theirs is not None
        assert np.array_equal(inputs.page(pixels), theirs)

        recognizer = RapidOCR(params={"Global.log_level": "error"})._load_rec_model()
        lines = [
            chance.integers(0, 256, (high, wide, 3), np.uint8)
            for high, wide in ((48, 200), (31, 333), (96, 20))
        ]
        for line in lines:
            ratio = max(320 / 48, line.shape[1] / line.shape[0])
            assert np.array_equal(
                inputs.lines([line], int(48 * ratio))[0], recognizer.resize_norm_img(line, ratio)
            )

        with Image.open(INVOICE) as image:
            invoice = np.asarray(image.convert("RGB"))
        drawn = [
            np.ascontiguousarray(invoice[top : top + 36, 20 : 20 + 100 * at])
            for at, top in enumerate(range(40, 440, 50), 1)
        ]
        found, texts = recognizer(TextRecInput(img=drawn)), Texts(recognizer)
        read = texts.read(drawn)
        assert [text for text, _ in read] == list(found.txts)
        for (_, score), theirs in zip(read, found.scores, strict=True):
            assert abs(score - theirs) < 0.1, "by their width, which is the longest one's of six"
        assert read == [texts.read([line])[0] for line in drawn], "whatever else is on the page"

    def test_rapidocr_refuses_odd_options(self, host: HostTier) -> None:
        with pytest.raises(EngineError, match="option threads is a whole number from 0 to 256"):
            engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": "many"}), host)

    def test_opencv_uses_the_threads_that_the_engine_is_given(self, host: HostTier) -> None:
        before = cv2.getNumThreads()
        try:
            for threads in (1, 2):
                engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": threads}), host)
                assert cv2.getNumThreads() == threads
        finally:
            cv2.setNumThreads(before)
