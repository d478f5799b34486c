"""Continues an answer in pieces after the worker that wrote it has died: another one writes it anew, and the client
gets what it hasn't yet.

Decoding is greedy, so an answer that is written again begins as before. Rounding may make it another one, since a page
that is read alone runs other kernels than in company; then the rest would not fit, and the answer ends with an error.
"""


class Differs(Exception):
    """Answer that is written again and isn't the one whose beginning the client has."""


class Continuation:
    """Text of one answer that its client has, and what the attempts to write it add to that."""

    def __init__(self) -> None:
        self._sent: list[str] = []
        self._repeat = ""
        """Text that an attempt after the first has to repeat before it is new."""

    @property
    def begun(self) -> bool:
        """Whether the client has anything."""
        return bool(self._sent)

    def begin(self) -> None:
        """Begin an attempt: the answer comes from its first character."""
        self._sent = ["".join(self._sent)] if self._sent else []
        self._repeat = "".join(self._sent)

    def add(self, piece: str) -> str:
        """Return what a piece of the attempt adds; empty where it repeats. Raises `Differs`."""
        known = min(len(piece), len(self._repeat))
        if self._repeat[:known] != piece[:known]:
            raise Differs
        self._repeat = self._repeat[known:]
        fresh = piece[known:]
        if fresh:
            self._sent.append(fresh)
        return fresh

    def end(self) -> None:
        """End the attempt, which is complete; raises `Differs` where it is shorter than what the client has."""
        if self._repeat:
            raise Differs
