"""Pages from a rendering process, and from the next one where that dies: a page that kills or hangs is one fault."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ocr_inference.documents.messages import Failed, Rendered
from ocr_inference.documents.page import Limits, PageFault, PageImage
from ocr_inference.documents.rendering import Died, Renderer
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

MAX_LOST: Final = 16
"""Pages that may end their process; later ones of the document are faults that aren't tried, since each try may take
as long as a page may."""


class Running(Protocol):
    """Rendering process, as `rendering.Renderer` has it."""

    @property
    def count(self) -> int: ...

    def request(self, index: int, dpi: float) -> None: ...

    async def page(self, index: int) -> tuple[Rendered, PageFile] | Failed: ...

    async def close(self) -> None: ...


Start = Callable[[str, PageFile, int], Awaitable[Running]]


class Restarting:
    """Renders pages of one document."""

    def __init__(
        self, kind: str, file: PageFile, limits: Limits, param: str, start: Start = Renderer.start
    ) -> None:
        """Prepare; the file is the caller's, and stays open meanwhile."""
        self._start = start
        self._kind = kind
        self._file = file
        self._limits = limits
        self._param = param
        self._renderer: Running | None = None
        self._ordered: tuple[int, float] | None = None
        """What the process renders already."""
        self._lost = 0

    async def start(self) -> int:
        """Open the document; returns how many pages it has. Raises `ApiError`."""
        try:
            self._renderer = await self._start(self._kind, self._file, self._limits.max_pixels)
        except Died as error:
            raise self._error(
                422, "invalid_document", f"the document can't be opened: its renderer {error}"
            ) from None
        except ApiError as error:
            raise self._error(error.status, error.code, error.message, error.retry_after_seconds) from None
        return self._renderer.count

    async def page(self, index: int, dpi: float, following: int | None) -> PageImage | PageFault:
        """Return a page; `following` is rendered while it is read."""
        if self._lost >= MAX_LOST:
            message = f"page {index + 1} wasn't tried: {self._lost} pages before have ended their renderer"
            return PageFault(index, self._error(422, "invalid_page", message))
        try:
            if self._renderer is None:
                await self.start()
            assert self._renderer is not None
            if self._ordered != (index, dpi):
                self._renderer.request(index, dpi)
            answer = await self._renderer.page(index)
        except (Died, ApiError) as error:
            await self.close()
            self._lost += 1
            if isinstance(error, ApiError):
                return PageFault(index, error)
            return PageFault(
                index,
                self._error(422, "invalid_page", f"page {index + 1} can't be rendered: its renderer {error}"),
            )
        except BaseException:
            await self.close()
            raise
        await self._order(following, dpi)
        if isinstance(answer, Failed):
            return PageFault(index, self._error(answer.status, answer.code, answer.message))
        rendered, picture = answer
        return PageImage(index, picture, rendered.width, rendered.height, rendered.dpi)

    async def close(self) -> None:
        """End the process."""
        self._ordered = None
        if self._renderer is not None:
            renderer, self._renderer = self._renderer, None
            await renderer.close()

    async def _order(self, index: int | None, dpi: float) -> None:
        self._ordered = None
        if index is None or self._renderer is None:
            return
        try:
            self._renderer.request(index, dpi)
            self._ordered = index, dpi
        except Died:
            await self.close()  # the page before was complete, and the next one isn't to blame

    def _error(
        self, status: int, code: str, message: str, retry_after_seconds: float | None = None
    ) -> ApiError:
        return ApiError(status, code, message, param=self._param, retry_after_seconds=retry_after_seconds)
