"""Documents become pages in a process of their own, and what is wrong with a page is told in its place."""

import io
import os
import resource
import signal
from contextlib import aclosing

import pytest
from PIL import Image

from ocr_inference.documents import document
from ocr_inference.documents.messages import Failed
from ocr_inference.documents.page import DPI, Limits, PageFault, PageImage
from ocr_inference.documents.rendering import Died, Renderer
from ocr_inference.documents.restarting import Restarting
from ocr_inference.documents.selection import ALL, Selection
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile
from tests.support import pages
from tests.support.pdfs import PdfPage, pdf

LIMITS = Limits(max_pages=10, max_pixels=10_000_000)


async def read(
    data: bytes, selection: Selection = ALL, limits: Limits = LIMITS, dpi: float = DPI
) -> list[Image.Image | PageFault]:
    with PageFile.of(data) as file:
        async with document.opened(file, limits) as opened, aclosing(opened.pages(selection, dpi)) as found:
            return [picture(page) if isinstance(page, PageImage) else page async for page in found]


def picture(page: PageImage) -> Image.Image:
    with page.file as file, file.open() as opened:
        image = Image.open(opened)
        image.load()
    assert image.size == (page.width, page.height)
    return image


def is_blank(page: Image.Image | PageFault) -> bool:
    assert isinstance(page, Image.Image)
    low, high = page.convert("L").getextrema()
    return low == high


async def test_pages_of_a_pdf_come_in_order_at_144_dpi() -> None:
    with PageFile.of(pages.pdf(3)) as file:
        async with document.opened(file, LIMITS) as opened:
            assert (opened.kind, opened.count) == ("PDF", 3)
            found = [page async for page in opened.pages()]
            again = [page async for page in opened.pages(Selection.parse("2-"), dpi=72)]
    images = [picture(page) for page in found if isinstance(page, PageImage)]
    assert [image.size for image in images] == [(820, 560)] * 3
    drawn = Image.open(io.BytesIO(pages.invoice()))
    assert (
        images[0].convert("L").resize((41, 28)).tobytes()[:100]
        == drawn.convert("L").resize((41, 28)).tobytes()[:100]
    )
    assert [(page.index, page.width) for page in again if isinstance(page, PageImage)] == [(1, 410), (2, 410)]
    for page in again:
        assert isinstance(page, PageImage)
        page.file.close()


async def test_a_page_that_cant_be_read_is_a_fault_in_its_place() -> None:
    wrong = PdfPage("no size", size=(0, 0))
    first, broken, large, last = await read(
        pdf([PdfPage("one"), wrong, PdfPage("plan", size=(14400, 7200)), PdfPage("two")])
    )
    assert not is_blank(first)
    assert not is_blank(last)
    assert isinstance(broken, PageFault) or broken.size != (0, 0)
    assert isinstance(large, Image.Image)
    assert large.width == pytest.approx(2 * large.height, rel=0.01)
    assert 9_000_000 < large.width * large.height <= LIMITS.max_pixels


async def test_frames_of_a_tiff_are_its_pages() -> None:
    modes = ("1", "L", "RGB", "CMYK", "I;16", "LA")
    shades = [Image.new(mode, (40 + index, 30)) for index, mode in enumerate(modes)]
    out = io.BytesIO()
    shades[0].save(out, "TIFF", save_all=True, append_images=shades[1:])
    found = await read(out.getvalue())
    assert [page.size for page in found if isinstance(page, Image.Image)] == [(40 + i, 30) for i in range(6)]


async def test_one_picture_is_its_own_page_without_a_process() -> None:
    data = pages.invoice()
    with PageFile.of(data) as file:
        async with document.opened(file, LIMITS) as opened:
            (page,) = [page async for page in opened.pages()]
    assert isinstance(page, PageImage)
    with page.file as same, same.open() as bytes_of_it:
        assert bytes_of_it.read() == data


@pytest.mark.parametrize("name", ["AVIF", "JPEG2000"])
async def test_formats_of_cameras_and_archives_are_read(name: str) -> None:
    (page,) = await read(pages.encoded(Image.new("RGB", (64, 48), "red"), name))
    assert isinstance(page, Image.Image)
    shades = page.convert("RGB").resize((1, 1)).tobytes()
    assert list(shades) == pytest.approx([255, 0, 0], abs=30)


@pytest.mark.parametrize(
    ("content", "limits", "status", "code"),
    [
        (pages.pdf(3), Limits(2, 10_000_000), 413, "too_many_pages"),
        (b"%PDF-1.7\nnot really", LIMITS, 422, "invalid_pdf"),
        (pages.pdf(1)[:3000], LIMITS, 422, "invalid_pdf"),
        (pdf([]), LIMITS, 422, "empty_document"),
        (b"", LIMITS, 422, "empty_upload"),
        (b"hello", LIMITS, 415, "unsupported_media_type"),
        (pages.bomb(), LIMITS, 413, "image_too_large"),
        (b"\0\0\0\x18ftypavif" + bytes(99), LIMITS, 422, "invalid_image"),
        (b"\xff\x4f\xff\x51" + bytes(99), LIMITS, 422, "invalid_image"),
    ],
    ids=["pages", "broken", "truncated", "no pages", "empty", "text", "bomb", "avif", "jpeg 2000"],
)
async def test_what_is_refused(content: bytes, limits: Limits, status: int, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        await read(content, limits=limits)
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_a_renderer_that_is_killed_says_so() -> None:
    with PageFile.of(pages.pdf(1)) as file:
        renderer = await Renderer.start("PDF", file, 10_000_000)
        try:
            os.kill(renderer.pid, signal.SIGKILL)
            with pytest.raises(Died, match=r"signal 9|has ended"):
                await asked(renderer)
        finally:
            await renderer.close()


async def asked(renderer: Renderer) -> None:
    renderer.request(0, 144)
    await renderer.page(0)


async def test_leaving_early_ends_the_renderer() -> None:
    started: list[Renderer] = []

    async def start(kind: str, file: PageFile, max_pixels: int) -> Renderer:
        started.append(await Renderer.start(kind, file, max_pixels))
        return started[-1]

    with PageFile.of(pages.pdf(8)) as file:
        source = Restarting("PDF", file, LIMITS, "file", start)
        await source.start()
        page = await source.page(0, 144, 1)
        assert isinstance(page, PageImage)
        page.file.close()
        await source.close()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


LIMITED = """
import resource, sys
from ocr_inference.documents import renderer
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
renderer.main(sys.argv[1:])
"""


async def test_limits_that_the_system_has_already_are_kept() -> None:
    with PageFile.of(pages.pdf(1)) as file:
        renderer = await Renderer.start("PDF", file, 10_000_000, ("-c", LIMITED))
        try:
            renderer.request(0, 72)
            answer = await renderer.page(0)
            assert isinstance(answer, tuple)
            answer[1].close()
            limits = (
                resource.prlimit(renderer.pid, kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)
            )
            assert [hard for _, hard in limits] == [1 << 30, 20]
        finally:
            await renderer.close()


FAKE = """
import resource, socket, sys
from ocr_inference.documents import messages, renderer
class Document:
    count = 1
    def render(self, index, dpi):
        {}
renderer.serve(Document, socket.socket(fileno=int(sys.argv[3])), cpu_seconds=1)
"""


@pytest.mark.parametrize(
    ("does", "status", "says"),
    [
        (
            "raise OSError(12, 'Cannot allocate memory')",
            507,
            "page 1 can't be rendered: it needs more memory than",
        ),
        ("raise MemoryError", 507, "it needs more memory than it may take"),
        ("raise ValueError('odd')", 422, "page 1 can't be rendered: odd"),
    ],
)
async def test_whatever_a_library_raises_is_an_error_of_the_page(does: str, status: int, says: str) -> None:
    with PageFile.of(pages.pdf(1)) as file:
        renderer = await Renderer.start("PDF", file, 10_000_000, ("-c", FAKE.format(does)))
        try:
            renderer.request(0, 144)
            answer = await renderer.page(0)
        finally:
            await renderer.close()
    assert isinstance(answer, Failed)
    assert answer.status == status
    assert says in answer.message


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("while True: pass", "took more processor time"),
        ("sys.exit(3)", "ended with exit code 3"),
        ("return messages.Rendered(0, 9, 9, None), 2", "sent what isn't understood"),  # no sealed file
        ("raise renderer.ApiError(200, 'fine', 'all is well')", "sent what isn't understood"),
        ("return messages.Rendered(0, 9, 70000, None), messages.create_file()", "sent what isn't understood"),
    ],
    ids=["hang", "exit", "no picture", "no error", "no size"],
)
async def test_a_page_that_hangs_or_breaks_its_renderer_says_so(does: str, says: str) -> None:
    with PageFile.of(pages.pdf(1)) as file:
        renderer = await Renderer.start("PDF", file, 10_000_000, ("-c", FAKE.format(does)))
        try:
            with pytest.raises(Died, match=says):
                await asked(renderer)
        finally:
            await renderer.close()
