"""The fake engine passes the suite of all engines, and every engine has its place where it does."""

import io
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from ocr_inference import engines
from ocr_inference.engines import pictures
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, InferRequest, ModelSpec
from ocr_inference.protocol.host_tier import HostTier
from ocr_inference.protocol.page import FORMATS
from ocr_inference.protocol.page_file import PageFile
from ocr_wire import engines as engine_table
from tests.support import pages
from tests.support.descriptors import no_more_descriptors
from tests.support.engines import Faults, picture
from tests.support.enginesuite import EngineSuite, answer
from tests.support.paths import INVOICE, ROOT
from tests.support.patience import PATIENCE


def test_every_engine_has_its_suite() -> None:
    line = re.compile(r"^class \w+\(EngineSuite\):\n    engine = \"(\w+)\"", re.MULTILINE)
    found = [name for file in (ROOT / "tests").rglob("test_*.py") for name in line.findall(file.read_text())]
    assert sorted(found) == sorted(engine_table.NAMES)


class TestFake(EngineSuite):
    engine = "fake"

    def test_fake_says_that_it_is_fake_and_depends_on_the_page_only(self, host: HostTier) -> None:
        engine = engines.create(ModelSpec(name="m", engine="fake"), host)
        engine.load()
        white = answer(engine, InferRequest(image=picture()))
        assert white.text.startswith("fake ocr of page")
        assert answer(engine, InferRequest(image=picture(kind="BMP"))).text == white.text
        assert answer(engine, InferRequest(image=picture(color="black"))).text != white.text

    def test_fake_refuses_unknown_options(self, host: HostTier) -> None:
        with pytest.raises(EngineError, match="no option 'speed'"):
            engines.create(ModelSpec(name="m", engine="fake", options={"speed": 1}), host)
        with pytest.raises(EngineError, match="load_seconds is a number"):
            engines.create(ModelSpec(name="m", engine="fake", options={"load_seconds": "long"}), host)

    def test_fake_holds_a_call_as_long_as_its_faults_say(self, host: HostTier, tmp_path: Path) -> None:
        faults = Faults(tmp_path)
        faults.set(load="hold")
        spec = ModelSpec(name="m", engine="fake", options={"faults_file": str(faults.file)})
        with ThreadPoolExecutor() as threads:
            loading = threads.submit(engines.create(spec, host).load)
            with pytest.raises(TimeoutError):
                loading.result(0.05)
            faults.set()
            assert loading.result(PATIENCE).host_bytes > 0


# --- pictures -------------------------------------------------------------------------------------------------


def refused(data: bytes, max_pixels: int = 1_000_000) -> Failure:
    with pytest.raises(EngineError) as error:
        pictures.decode(data, max_pixels)
    return error.value.failure


def test_a_truncated_picture_names_the_problem() -> None:
    result = refused(INVOICE.read_bytes()[:2000])
    assert result.kind is FailureKind.INVALID_IMAGE
    assert "truncated" in result.message


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert refused(data).kind is FailureKind.INVALID_IMAGE


def test_a_bomb_is_refused_by_its_header() -> None:
    result = refused(pages.bomb(), 100_000_000)
    assert result.kind is FailureKind.IMAGE_TOO_LARGE
    assert result.message == "30000 x 30000 pixels; the limit is 100000000 in all and 65535 a side"


@pytest.mark.parametrize("kind", [*FORMATS, "TIFF in LZW"])
def test_a_file_is_decoded_as_its_bytes_are_and_stays_open(kind: str) -> None:
    data = io.BytesIO()
    with Image.open(INVOICE) as image:
        part = image.convert("RGB").crop((0, 0, 500, 300))
    if kind == "TIFF in LZW":
        part.save(data, "TIFF", compression="tiff_lzw")
    else:
        part.save(data, kind)
    with PageFile.of(data.getvalue()) as page, page.open() as file:
        for _ in range(2):
            read = pictures.decode(file, 1_000_000)
            assert read.tobytes() == pictures.decode(data.getvalue(), 1_000_000).tobytes()
        assert not file.closed


def test_a_file_that_is_closed_meanwhile_is_read_to_its_end() -> None:
    with PageFile.of(b"page") as page, page.open() as file, pictures.opened(file) as own:
        file.close()
        with page.open() as other:  # it has the number now
            assert own.read() == b"page"
            assert other.tell() == 0


def test_a_file_that_can_not_be_opened_is_not_the_clients_fault() -> None:
    with PageFile.of(picture()) as page, page.open() as file:
        for free in range(2):
            with no_more_descriptors(free=free), pytest.raises(EngineError, match="Too many open") as error:
                pictures.decode(file, 1_000_000)
            assert error.value.failure.kind is FailureKind.OUT_OF_DESCRIPTORS
        assert pictures.decode(file, 1_000_000).width == 40


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_becomes_rgb_and_white_stays_white(mode: str) -> None:
    white: dict[str, int | tuple[int, ...]] = {
        "1": 1,
        "LA": (255, 255),
        "RGBA": (0, 0, 0, 0),
        "I;16": 65_535,
        "RGB": (255, 255, 255),
        "P": 0,
    }
    image = Image.new(mode, (8, 8), white.get(mode, 255))
    if mode == "P":
        image.putpalette([255, 255, 255])
    data = io.BytesIO()
    image.save(data, "PNG")
    decoded = pictures.decode(data.getvalue(), 1000)
    assert decoded.mode == "RGB"
    assert decoded.getpixel((3, 3)) == (255, 255, 255)


# --- the registry ---------------------------------------------------------------------------------------------


def test_a_worker_of_one_engine_imports_no_other() -> None:
    code = (
        "import sys; from ocr_inference import engines; from ocr_inference.protocol.engine import ModelSpec;"
        "from ocr_inference.protocol.host_tier import HostTier;"
        "engines.create(ModelSpec(name='m', engine='fake'), HostTier.create('m')).load();"
        "print('onnxruntime' in sys.modules or 'rapidocr' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_host_tier_gives_its_memory_back() -> None:
    host = HostTier.create("test")
    before = _shared_bytes()
    host.resize(64 << 20)
    with Path(host.path).open("r+b") as file:
        file.write(b"x" * (64 << 20))
    assert host.size == 64 << 20
    assert os.fstat(host.fd).st_blocks * 512 >= 64 << 20
    host.resize(0)
    assert os.fstat(host.fd).st_blocks == 0
    assert _shared_bytes() - before < 1 << 20
    host.close()


def _shared_bytes() -> int:
    """Shared memory mapped by this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) * 1024
    return 0
