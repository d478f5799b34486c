"""Pages read to their end by an engine that works in steps, for callers that don't step themselves."""

from collections.abc import Sequence

from ocr_inference.protocol.engine import Delta, Failure, InferRequest, PageResult, SteppingEngine


def read(engine: SteppingEngine, requests: Sequence[InferRequest]) -> list[PageResult | Failure]:
    """Return the answers of all pages, in the order of the requests."""
    answers: dict[int, PageResult | Failure] = {}
    waiting = list(enumerate(requests))
    while len(answers) < len(requests):
        while waiting and engine.free_slots:
            engine.admit(*waiting.pop(0))
        answers |= {number: event for number, event in engine.step() if not isinstance(event, Delta)}
    return [answers[number] for number in range(len(requests))]
