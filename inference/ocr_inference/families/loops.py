"""The loop guard: greedy models repeat themselves on hard pages; a phrase must not come twice within a window."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LoopGuard:
    ngram: int
    """Tokens of a phrase, at least 2."""
    window: int
    """Number of the tokens written last that are searched."""
    allowed: frozenset[int] = frozenset()
    """Tokens that are never banned: the tags of a table's cells repeat on honest pages."""

    def banned(self, written: Sequence[int]) -> frozenset[int]:
        """Return tokens that would complete a phrase which the window holds already.

        The cost depends on the window alone, however long the page: tokens become characters, so that the search for
        the last phrase is one of a text.
        """
        tail = "".join(map(chr, written[-self.window :]))
        prefix = tail[1 - self.ngram :]
        if len(prefix) < self.ngram - 1:
            return frozenset()
        found = set()
        at = tail.find(prefix)
        while (after := at + len(prefix)) < len(tail):
            found.add(ord(tail[after]))
            at = tail.find(prefix, at + 1)
        return frozenset(found) - self.allowed
