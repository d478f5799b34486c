"""OCR on the CPU by RapidOCR: the suite of all engines, and what is particular to this one."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from ocr_inference import engines
from ocr_inference.protocol.engine import Engine, EngineError, InferRequest, ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from tests.support.engines import picture
from tests.support.enginesuite import EngineSuite, answer, heading
from tests.support.paths import INVOICE

pytest.importorskip("rapidocr")


SPEC = ModelSpec(name="m", engine="rapidocr", options={"threads": 1})


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

    def test_rapidocr_refuses_odd_options(self, host: HostTier) -> None:
        with pytest.raises(EngineError, match="option threads is a number"):
            engines.create(ModelSpec(name="m", engine="rapidocr", options={"threads": "many"}), host)
