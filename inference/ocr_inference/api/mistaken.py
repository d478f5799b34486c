"""Fields in requests of other servers' shapes that were meant to say what is to be done, and aren't where that is said.

Our own options are in one object, `ocr`. What it doesn't have, or what stands beside it, is refused: without it another
thing would be done.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from ocr_inference.errors import ApiError
from ocr_wire.checked import Unknown
from ocr_wire.text import shown

NEARLY: Final[Mapping[str, str]] = {"prompt_type": "task", "mode": "task", "search_text": "find_term"}
"""Names that fields of `ocr` have elsewhere."""


def refuse(beside: Iterable[str], own: Iterable[str], known: Collection[str]) -> None:
    """Raise 422 for a field beside `ocr` that belongs in it, and for one in it (`own`) that isn't `known`."""
    for name in beside:
        if name in known or NEARLY.get(name) in known:
            meant = f"ocr.{NEARLY.get(name, name)}"
            message = f"no field {shown(name)!r} here; did you mean {meant!r}?"
            raise ApiError(422, "unknown_field", message, param=shown(name))
    for name in own:
        if name not in known:
            near = Unknown("ocr", NEARLY.get(name, name[:64]), tuple(known)).hint
            message = f"no field {shown(name)!r} in ocr{near}; there are {', '.join(known)}"
            raise ApiError(422, "unknown_field", message, param=f"ocr.{shown(name)}")
