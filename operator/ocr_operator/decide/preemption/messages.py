"""Why a model may not be asked, and the sentences of a decision: for Events and logs. No sentence ticks."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ocr_operator.decide.placement.messages import size
from ocr_operator.decide.preemption.types import Resident, Waiter

IN_USE: Final = "in use"
PROMISED: Final = "promised its memory"
HIGHER: Final = "of higher priority"
PRELOADED: Final = "preloaded"
SOON: Final = "ready or asked only just now, or too small"
_ORDER: Final = (IN_USE, PROMISED, HIGHER, PRELOADED, SOON)


def bar(waiter: Waiter, resident: Resident) -> str | None:
    """Name what keeps a model from being asked for this waiter, whatever the time; None: nothing.

    What placement promised stands above priorities: a promised model never goes, and for a waiter whose memory is
    promised any other idle model goes.
    """
    if resident.idle_since is None:
        return IN_USE
    if resident.reserved:
        return PROMISED
    if waiter.reserved or resident.priority < waiter.priority:
        return None
    if resident.priority > waiter.priority:
        return HIGHER
    return PRELOADED if resident.preload else None


def why(victim: Resident, waiter: Waiter, choice: str) -> str:
    """`pp-ocr of default/invoices-1 makes way on GPU-1 (12Gi, priority 0) for …, which lacks 8Gi: …`."""
    return (
        f"{victim.copy} makes way on {victim.gpu} ({size(victim.held_bytes)}, priority {victim.priority}) for "
        f"{waiter.copy}, which lacks {size(waiter.lack_bytes)}: {choice}"
    )


def no_victim(waiter: Waiter, bars: Sequence[str]) -> str:
    """Say why no model is asked for a waiter; `bars` has an entry for each model of other pods on the GPU."""
    head = f"{waiter.copy} lacks {size(waiter.lack_bytes)} on {waiter.gpu}"
    if not bars:
        return f"{head}: no pod of an OcrDeployment holds memory there; see nvidia-smi for who does"
    counts = Counter(bars)
    parts = [
        f"{counts[each]} {'is' if counts[each] == 1 else 'are'} {each}" for each in _ORDER if counts[each]
    ]
    return f"{head}: of {len(bars)} model{'' if len(bars) == 1 else 's'} there {', '.join(parts)}"


def spent(waiter: Waiter, asks_per_minute: int) -> str:
    return (
        f"{waiter.copy} lacks {size(waiter.lack_bytes)} on {waiter.gpu}: {asks_per_minute} asks a minute are the "
        "limit there; give the GPU less to share, or raise OCR_OPERATOR_ARBITRATION_ASKS_PER_MINUTE"
    )
