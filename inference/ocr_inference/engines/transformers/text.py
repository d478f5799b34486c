"""Text of an answer while it is written: pieces of whole characters that add up to the text of all its tokens."""

from collections.abc import Callable, Sequence

_HALF = "\ufffd"
"""Character that decoders put for bytes that are no character, such as the first of several."""
_PATIENCE = 64
"""Tokens without a whole character after which they count as garbage, which is sent as it is."""


class Pieces:
    """Decodes a window of the last tokens, so a token costs the same however long the answer is.

    The window begins one piece before the new one, since decoders treat the first token of a text differently.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._seen = 0
        """Tokens of the window whose text has been given out."""
        self._seen_text = ""

    def add(self, token: int) -> str:
        """Return what this token adds to the text; empty while a character isn't whole."""
        self._window.append(token)
        text = self._decode(self._window)
        waiting = len(self._window) - self._seen
        if text.endswith(_HALF) and waiting < _PATIENCE:
            return ""
        return self._give(text)

    def rest(self) -> str:
        """Return, at the end, what was held back."""
        return self._give(self._decode(self._window)) if self._seen < len(self._window) else ""

    def _give(self, text: str) -> str:
        piece = text[len(self._seen_text) :]
        if piece or len(self._window) - self._seen >= _PATIENCE:
            self._window = self._window[self._seen :]
            self._seen = len(self._window)
            self._seen_text = self._decode(self._window)
        return piece
