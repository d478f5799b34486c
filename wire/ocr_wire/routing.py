"""The annotation of a pod that says why it gets requests, or why it gets none.

The operator writes it in the patch that changes the label `ocr-operator.io/awake`; the plugin explains it. Nothing
depends on it: it is never read back, and every user with write access to pods can edit it.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

from ocr_wire import checked, text
from ocr_wire.checked import Invalid

MAX_BYTES: Final = 16 * 1024


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The annotation `ocr-operator.io/routing`; each field is optional, and unknown ones are ignored."""

    awake: bool | None = None
    """The label's value that it explains: one that was edited by hand is another."""
    since: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """RFC 3339; see `time`."""
    why: text.Text = ""

    @property
    def time(self) -> datetime | None:
        """Time of the change; None where a manual edit broke it."""
        found = checked.convert(self.since, text.Time)
        return None if isinstance(found, Invalid) else found

    def to_json(self) -> str:
        """Return the annotation's text."""
        return msgspec.json.encode(self).decode()


_JSON: Final = msgspec.json.Decoder(Record)


def read(body: str) -> Record | Invalid:
    """Read the annotation `ocr-operator.io/routing`. Never raises."""
    return checked.read(body, _JSON, MAX_BYTES)
