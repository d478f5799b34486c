"""`fewest`: no higher a priority than needed, as few models as possible, the idlest."""

from collections.abc import Iterable, Sequence

from ocr_operator.decide.preemption.types import Resident


class Fewest:
    name = "fewest"

    def choose(self, lack_bytes: int, candidates: Iterable[Resident]) -> tuple[Resident, ...]:
        """Choose models that together hold at least `lack_bytes`; none where all of them don't.

        1. None of a higher priority than the lack needs.  2. The fewest.  3. Of as many, those worth least: lowest
        priority, not preloaded, idle the longest; names decide between equals.
        """
        pool = _affordable(lack_bytes, sorted(candidates, key=_worth))
        count, sizes = 0, sorted((each.held_bytes for each in pool), reverse=True)
        while sum(sizes[:count]) < lack_bytes:
            if count == len(sizes):
                return ()
            count += 1
        chosen: list[Resident] = []
        for index, each in enumerate(pool):
            if len(chosen) == count:
                break
            # It is taken if the largest behind it can give the rest: then a set of this size exists with it.
            rest = sorted((other.held_bytes for other in pool[index + 1 :]), reverse=True)
            given = sum(other.held_bytes for other in (*chosen, each))
            if given + sum(rest[: count - len(chosen) - 1]) >= lack_bytes:
                chosen.append(each)
        return tuple(chosen)

    def reason(self, count: int) -> str:
        if count == 1:
            return "the idlest of the lowest priority that suffices"
        return f"one of the fewest, {count}, that suffice"


def _affordable(lack_bytes: int, candidates: Sequence[Resident]) -> Sequence[Resident]:
    """Those up to the lowest priority that suffices; all where none does."""
    for ceiling in sorted({each.priority for each in candidates}):
        pool = [each for each in candidates if each.priority <= ceiling]
        if sum(each.held_bytes for each in pool) >= lack_bytes:
            return pool
    return candidates


def _worth(each: Resident) -> tuple[object, ...]:
    idle = each.idle_since.timestamp() if each.idle_since else float("inf")
    return (each.priority, each.preload, idle, each.copy.key, each.copy.pod, each.copy.uid, each.copy.model)
