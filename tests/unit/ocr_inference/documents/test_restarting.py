"""A page that ends its renderer is one fault in its place."""

from dataclasses import dataclass, field

from ocr_inference.documents import restarting
from ocr_inference.documents.messages import Failed, Rendered
from ocr_inference.documents.page import Limits, PageFault, PageImage
from ocr_inference.documents.rendering import Died
from ocr_inference.documents.restarting import Restarting
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile


@dataclass
class Renderers:
    """Starts renderers of a document, and remembers what they were asked."""

    count: int
    deadly: frozenset[int] = frozenset()
    """Pages that end their renderer."""
    damaged: frozenset[int] = frozenset()
    starts: int = 0
    most_starts: int = 1000
    asked: list[int] = field(default_factory=list)
    open: int = 0

    async def start(self, kind: str, file: PageFile, max_pixels: int) -> "Running":
        if self.starts == self.most_starts:
            raise ApiError(503, "out_of_descriptors", "no process left")
        self.starts += 1
        self.open += 1
        return Running(self)


@dataclass
class Running:
    of: Renderers
    dead: bool = False

    @property
    def count(self) -> int:
        return self.of.count

    def request(self, index: int, dpi: float) -> None:
        if self.dead:
            raise Died("has ended")
        self.of.asked.append(index)

    async def page(self, index: int) -> tuple[Rendered, PageFile] | Failed:
        if index in self.of.deadly:
            self.dead = True
            raise Died("was ended by signal 11")
        if index in self.of.damaged:
            return Failed(index, 422, "invalid_page", f"page {index + 1} is damaged")
        # A renderer may end while it is asked for nothing, too.
        self.dead = index + 1 in self.of.deadly and index % 2 == 0
        return Rendered(index, 3, 2, 144), PageFile.of(b"page")

    async def close(self) -> None:
        self.of.open -= 1


async def read(renderers: Renderers) -> list[PageImage | PageFault]:
    with PageFile.of(b"document") as file:
        document = Restarting("PDF", file, Limits(1000, 1000), "file", renderers.start)
        assert await document.start() == renderers.count
        found = []
        for index in range(renderers.count):
            following = index + 1 if index + 1 < renderers.count else None
            page = await document.page(index, 144, following)
            if isinstance(page, PageImage):
                page.file.close()
            found.append(page)
        await document.close()
    assert renderers.open == 0
    return found


async def test_each_page_is_asked_for_once_while_the_one_before_is_read() -> None:
    renderers = Renderers(3)
    assert [page.index for page in await read(renderers) if isinstance(page, PageImage)] == [0, 1, 2]
    assert (renderers.asked, renderers.starts) == ([0, 1, 2], 1)


async def test_a_page_that_ends_its_renderer_costs_that_page_only() -> None:
    renderers = Renderers(6, deadly=frozenset({1, 4}), damaged=frozenset({2}))
    found = await read(renderers)
    assert [page.index for page in found] == [0, 1, 2, 3, 4, 5]
    assert [page.index for page in found if isinstance(page, PageFault)] == [1, 2, 4]
    fault = found[1]
    assert isinstance(fault, PageFault)
    assert fault.error.message == "page 2 can't be rendered: its renderer was ended by signal 11"
    assert (fault.error.status, fault.error.param) == (422, "file")


async def test_after_many_of_them_no_further_page_is_tried() -> None:
    most = restarting.MAX_LOST
    renderers = Renderers(most + 20, deadly=frozenset(range(most + 10)))
    found = await read(renderers)
    assert all(isinstance(page, PageFault) for page in found)
    assert len(found) == most + 20
    assert max(renderers.asked) < most + 1
    assert isinstance(found[-1], PageFault)
    assert "wasn't tried" in found[-1].error.message


async def test_a_system_without_processes_is_told_page_by_page() -> None:
    renderers = Renderers(4, deadly=frozenset({2}), most_starts=1)
    found = await read(renderers)
    assert [page.error.status for page in found if isinstance(page, PageFault)] == [422, 503]
