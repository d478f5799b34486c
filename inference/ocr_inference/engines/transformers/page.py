"""Page in the engine: what is known of it so far, and its size by the memory of the device."""

from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from msgspec import structs

from ocr_inference.engines.transformers.checkpoints import Opened
from ocr_inference.engines.transformers.generation import Prompt
from ocr_inference.engines.transformers.inputs import Inputs
from ocr_inference.engines.transformers.text import Pieces
from ocr_inference.families import CHAT, page_size
from ocr_inference.protocol.engine import Failure, FailureKind, InferRequest, Shortage
from ocr_inference.protocol.memory_use import DeviceUse


@dataclass
class PageState:
    """Page in the engine: being prepared, waiting for memory, or being written."""

    number: int
    request: InferRequest
    began: float
    job: "Future[Inputs]"
    pieces: Pieces
    prompt: Prompt | None = None
    """Inputs on the device, its picture encoded."""
    text: list[str] = field(default_factory=list)
    tokens: int = 0

    @property
    def inputs(self) -> Inputs:
        return self.job.result()

    def out_of_memory(self, opened: Opened, message: str) -> Failure:
        """Make its failure, where memory ran out for it."""
        read = self.job.result() if self.job.done() and self.job.exception() is None else None
        smaller = opened.smaller(self.request, read)
        return Failure(kind=FailureKind.OUT_OF_MEMORY, message=message, smaller=smaller)


def prepare(opened: Opened, request: InferRequest, use: DeviceUse | None) -> Inputs:
    """Decode a page and build its prompt, no larger than the memory of the device allows; raises `EngineError`.

    A request that says at which size it is read isn't bounded. Nor are models whose views have fixed sizes, whatever
    the page's: only their `resolution` decides what a page takes.
    """
    why = "memory ran out at a larger size"
    if use is not None and request.read_at is None and opened.family is CHAT:
        available = use.available_bytes
        longest = page_size.longest_side(available, request.resolution)
        if longest is not None:
            why = page_size.why(longest, available)
            request = structs.replace(request, read_at=page_size.size(longest))
    inputs = opened.prepare(request)
    if inputs.read_at is None:
        return inputs
    return replace(inputs, shortage=Shortage(read_at=inputs.read_at, why=why))
