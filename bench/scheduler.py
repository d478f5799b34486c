"""Is a pod placed wherever plain Kubernetes would place it, and do others end for nothing? The clusters of `oracle`."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

from bench import oracle, report
from bench.oracle import Outcome

CLUSTERS: Final = 45_000


def _play(clusters: int) -> Sequence[Outcome]:
    return [oracle.play(random.Random(seed)) for seed in range(clusters)]


async def measure() -> report.Result:
    outcomes = await asyncio.to_thread(_play, CLUSTERS)
    possible = [each for each in outcomes if each.possible]
    pinned = [each for each in possible if each.pinned]
    others = [each for each in possible if not each.pinned]
    tries = Counter(each.replaced for each in pinned)
    behind = sum(each.replaced > each.hidden for each in pinned)
    return report.Result(
        name="scheduler",
        method=f"{CLUSTERS:,} clusters of 1 to 6 nodes with pods of others, some of which are resized, end, or are "
        "nominated for a node, and a pod for each: shared, exclusive, for one product, or with a claim. A scheduler of "
        "its own reading filters by CPU, memory, pods, devices, host ports, taints, selectors, priorities, pod "
        "affinity and anti-affinity of both sides and topology spread, which placement sees, and refuses 10 % of the "
        "nodes for a reason that it doesn't see. A pod has a place where a node passes all of it and has a GPU that "
        "works for it. Pinned: shared, or spread over nodes. More than they need to: pods of a lower priority end, or "
        "lose a promise, though there was a place without.",
        rows=[
            report.Row("pods that have a place", len(possible), "", "≥ 10000", len(possible) >= 10_000),
            report.at_most(
                "not placed there, or placed where it doesn't work",
                sum(not each.right for each in outcomes),
                "",
                0,
            ),
            report.at_most(
                "pods that cost others more than they need to", sum(each.dear for each in outcomes), "", 0
            ),
            report.plain("pinned: placed at once", 100 * tries[0] / len(pinned), "%"),
            report.plain("pinned: placed by the second pod", 100 * tries[1] / len(pinned), "%"),
            report.plain("pinned: most replacements of a pod", max(tries), ""),
            report.at_most("pinned: more replacements than nodes refuse unseen", behind, "", 0),
            report.at_most(
                "others: most replacements of a pod", max(each.replaced for each in others), "", 0
            ),
        ],
        samples={},
    )
