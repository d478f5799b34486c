"""Figures that pages quote from `bench/results`: each text with the rows that its figures come from.

A text has `{}` for each figure; rendered, it is once in its page, word for word. Of the README's table "Measured" each
row has to be here. So a measurement that is made again shows which texts have to follow, and a row that is new has to
say where its figures are from.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from tests.support.paths import ROOT


@dataclass(frozen=True)
class Figure:
    """Figure of a row of a result, as it is written in a text."""

    result: str
    row: str
    form: str
    times: float
    """What it is multiplied by before: 0.001 where a text has seconds of milliseconds."""

    @property
    def said(self) -> str:
        return format(self._row["value"] * self.times, self.form)

    @property
    def missed(self) -> bool:
        """Whether it misses its target."""
        return self._row["met"] is False

    @property
    def _row(self) -> dict[str, Any]:
        return _rows(self.result)[self.row]


@cache
def _rows(result: str) -> dict[str, dict[str, Any]]:
    """Return rows by their names, without those of a name that several have."""
    rows = json.loads((ROOT / f"bench/results/{result}.json").read_text())["rows"]
    names = Counter(row["what"] for row in rows)
    return {row["what"]: row for row in rows if names[row["what"]] == 1}


@dataclass(frozen=True)
class Quote:
    page: str
    text: str
    figures: tuple[Figure, ...]

    @property
    def said(self) -> str:
        return self.text.format(*(figure.said for figure in self.figures))


def of(result: str, row: str, form: str = ".0f", times: float = 1.0) -> Figure:
    return Figure(result, row, form, times)


def readme(text: str, *figures: Figure) -> Quote:
    return Quote("README.md", text, figures)


def bench(text: str, *figures: Figure) -> Quote:
    return Quote("bench/README.md", text, figures)


_SCALE = (
    ("scale", "1000 resources, 2000 pods: gate absent → all ready"),
    ("scale-5000-pods", "1000 resources, 5000 pods: gate absent → all ready"),
)
BEYOND: Final = "cold start beyond what the control plane needs"
AT_REST: Final = (
    ("resident memory of the operator", ".0f"),
    ("at rest: CPU of the operator", ".1f"),
    ("at rest: writes of resources", ".0f"),
)
APPLIED: Final = "policy → applied in 1000 resources, "
FIRST: Final = "the first policy after a restart → applied in 1000 resources"
NEXT: Final = "restart → next placement, the longest of 3"
VLLM, OURS = "vllm through our server", "transformers through our server"
ALONE: Final = "vllm by itself"
TINY: Final = "tiny deepseek-ocr"
GROWN: Final = ((100, ".1f"), (300, ".1f"), (1000, ".0f"), (3000, ".0f"))
"""Numbers of resources, and the form of a figure of seconds."""

README: Final = (
    readme("| {} s | ≤ 60 s |", of("firstpage", "clone to the first page in the browser")),
    readme(
        "| {} s / {} s | ≤ 2 s / ≤ 20 s |",
        of("failover", "SIGTERM → next placement, the longest of 10", ".1f"),
        of("failover", "SIGKILL → next placement, the longest of 5", ".1f"),
    ),
    readme(
        "60 in a row, p50 / p99 | {} ms / {} ms |",
        of("control", "patch → applied in 4 pods, p50"),
        of("control", "patch → applied in 4 pods, p99"),
    ),
    readme(
        "| the same in 100 pods (stand-ins that answer as pods do) | {} ms / {} ms |",
        of("fleet", "patch → applied in 100 pods, p50"),
        of("fleet", "patch → applied in 100 pods, p99"),
    ),
    readme(
        "| one policy over 100 resources → applied in all, p50 / p99 | {} s / {} s |",
        of("fleet", "policy → applied in 100 resources, p50", ".2f", 0.001),
        of("fleet", "policy → applied in 100 resources, p99", ".1f", 0.001),
    ),
    readme("/ with 5,000 pods | {} s / {} s | ≤ 60 s |", of("scale", BEYOND), of("scale-5000-pods", BEYOND)),
    readme(
        "p50 / the longest of 10 / the first after a restart | {} s / {} s / {} s |",
        of("scale", f"{APPLIED}p50", ".1f"),
        of("scale", f"{APPLIED}p99", ".1f"),
        of("scale", FIRST, ".1f"),
    ),
    readme(
        " | {} s / {} s / {} s | p99 ≤ 10 s |",
        of("scale-5000-pods", f"{APPLIED}p50", ".1f"),
        of("scale-5000-pods", f"{APPLIED}p99", ".1f"),
        of("scale-5000-pods", FIRST),
    ),
    readme(
        "CPU / writes of resources | {} MiB / {} % of a core / {} |",
        *(of("scale", *each) for each in AT_REST),
    ),
    readme(
        "| the same with 5,000 pods | {} MiB / {} % / {} |",
        *(of("scale-5000-pods", *each) for each in AT_REST),
    ),
    readme(
        "next pod placed, the longest of 3 | {} s / {} s |",
        of("scale", NEXT, ".1f"),
        of("scale-5000-pods", NEXT, ".1f"),
    ),
    readme(
        "one change right after the other, p99 | {} s / {} s |",
        of("control", "state change in a pod → status, p50", ".2f", 0.001),
        of("control", "state changes one right after the other → status, p99", ".2f", 0.001),
    ),
    readme(
        "| writes of the resource in 2 minutes of rest | {} |",
        of("control", "writes of the resource in 120 s of rest"),
    ),
    readme(
        "| the GPU that placement chooses is the least loaded, of {} against an oracle | {} % |",
        of("placement", "placements against the oracle", ",.0f"),
        of("placement", "truly least loaded GPU"),
    ),
    readme(
        "among 8,000 GPUs, p50 / p99 (the first of its kind: {} ms) | {} ms / {} ms |",
        of("placement", "the same, the first of its kind, p50"),
        of("placement", "CPU time of a choice among 8,000 GPUs, p50", ".1f"),
        of("placement", "CPU time of a choice among 8,000 GPUs, p99", ".1f"),
    ),
    readme(
        "100 equal GPUs, most − fewest on one | {} |", of("placement", "max - min pods on a GPU, equal GPUs")
    ),
    readme(
        "another resource's idle one → ready, p50 / p99 | {} s / {} s |",
        of("preemption", "waits → ready, PP-OCR's restore included, p50", ".2f"),
        of("preemption", "waits → ready, PP-OCR's restore included, p99", ".2f"),
    ),
    readme(
        "in a storm of {} events, {} models made way | {} |",
        of("preemption", "storm: events from outside", ",.0f"),
        of("preemption", "storm: models that made way"),
        of("preemption", "storm: moves under leases"),
    ),
    *(
        readme(
            f"| {text} | {{}} × / {{}} × |",
            of("awake", f"{traffic}: residency, warmFirst ÷ all", ".2f"),
            of("awake", f"{traffic}: p99, warmFirst ÷ all", ".2f"),
        )
        for traffic, text in (
            ("sparse", "sparse traffic on 4 replicas, `warmFirst` ÷ `all`: time on GPUs / p99 latency"),
            ("steady", "steady traffic, the same"),
            ("bursty", "bursts of 20 pages, the same: a loss"),
        )
    ),
    readme(
        "memory of its own ÷ weights / first load ÷ the first server's | {} / {} × |",
        of("sharing", "second server: its own memory for weights ÷ the weights"),
        of("sharing", "second server: first load ÷ the first server's", ".2f"),
    ),
    readme(
        "vLLM's own: engine `vllm` / `transformers` | {} × / {} × |",
        of("batched", f"{VLLM} ÷ {ALONE}", ".2f"),
        of("batched", f"{OURS} ÷ {ALONE}", ".2f"),
    ),
    readme(
        "(a page by the ready model: {} s) | {} s / {} s |",
        of("wake", f"{TINY}: a page by a ready model, median", ".2f", 0.001),
        of("wake", f"{TINY}: exited → answer, median", ".2f", 0.001),
        of("wake", f"{TINY}: exited → first piece of the answer, median", ".2f", 0.001),
    ),
    readme(
        "200 million parameters on a CPU | {} × |",
        of("coldstart", f"first token: {OURS} from deep idle ÷ {ALONE} from its start", ".2f"),
    ),
    readme(
        "| the first page after a load ÷ vLLM's own, engine `vllm` / `transformers` | {} × / {} × |",
        of("coldstart", f"first page after a load: {VLLM} ÷ {ALONE}", ".2f"),
        of("coldstart", f"first page after a load: {OURS} ÷ {ALONE}", ".2f"),
    ),
    readme(
        "memory of all processes, and wake-ups a second at most | {} MiB / {} MiB, {} |",
        of("idle", f"{TINY}: deep idle"),
        of("idle", f"{TINY}: released"),
        of("idle", f"{TINY}: wake-ups at rest, the most in any state", ".1f"),
    ),
    *(
        readme(
            f"| {text} | {{}} × / {{}} × | ≤ 1.05 × |",
            of("wake", f"{model}: first page after an offload ÷ steady, in the engine", ".2f"),
            of("wake", f"{model}: first page after deep idle ÷ steady, in the engine", ".2f"),
        )
        for model, text in (
            (TINY, "first page after an offload / deep idle ÷ steady: the same model"),
            ("pp-ocr", "the same of PP-OCR: a miss after an offload"),
        )
    ),
    readme(
        "| {} random moves of two tiny vision-language models under load, {} of them `kill -9`: "
        "answers wrong or lost | {} |",
        of("serverstorm", "life-cycle calls and kills"),
        of("serverstorm", "of them kill -9 of a worker"),
        of("serverstorm", "wrong answers"),
    ),
    readme(
        "{} pages that kill workers and {} that hang: answers wrong or lost, of {} read whole and {} streamed | {} |",
        of("soak", "workers killed by a page"),
        of("soak", "pages read by hung"),
        of("soak", "pages read by reader", ",.0f"),
        of("soak", "pages read by writer", ",.0f"),
        of("soak", "wrong answers"),
    ),
    readme(
        "| memory of the server in that time, later ÷ first third | {} × |",
        of("soak", "memory of the server, later ÷ first third", ".2f"),
    ),
    readme(
        "| `/health` while pages are read at full load, p99 | {} ms |",
        of("server", "/health under that load, p99", ".1f"),
    ),
    readme(
        "| `/health` while 4 clients send pages of 45 MiB, in forms / in chat, p99 | {} ms / {} ms |",
        *(
            of("bodies", f"/health, 4 clients with pages of 45 MiB in {how}, p99")
            for how in ("forms", "chat")
        ),
    ),
    readme(
        "memory of the server and its pages, in forms / in chat | {} MiB / {} MiB |",
        *(of("bodies", f"memory with the pages, 40 uploads of 48 MiB in {how}") for how in ("forms", "chat")),
    ),
    readme(
        "| {} drawn pages of 21 layouts: error for each character, ours / rapidocr's own order | {} / {} |",
        of("layouts", "pages"),
        of("layouts", "all pages: ours, error", ".3f"),
        of("layouts", "all pages: rapidocr, error", ".3f"),
    ),
    readme(
        "| {} damaged PDFs and pictures of many frames: the process that draws crashed / took over 30 s / "
        "gave no answer | {} / {} / {} |",
        of("fuzzdocuments", "documents", ",.0f"),
        of("fuzzdocuments", "documents that crash the process that draws them"),
        of("fuzzdocuments", "documents that take longer than 30 s"),
        of("fuzzdocuments", "of both, those that the server gets no error for"),
    ),
    readme(
        "peak memory of the server and what draws, text / scans | {} × / {} × |",
        *(of("documents", f"{kind}: of 400 pages, of that", ".2f") for kind in ("text", "scans")),
    ),
    readme(
        "one by one by `read`, PP-OCR on 2 cores: a miss | {} × |",
        of("jobs", "job against `read`, PP-OCR", ".2f"),
    ),
    readme(
        "by the bare library, median of 30 pairs | {} × |",
        of("server", "server ÷ bare, median of pairs", ".2f"),
    ),
    readme(
        "a miss / one page after the other, its time ÷ the library's | {} × / {} × |",
        of("ppocr", "16 pages at once: ours ÷ bare", ".2f"),
        of("ppocr", "one page after the other, seconds of one: ours ÷ bare", ".2f"),
    ),
)
"""The README's table "Measured", row by row."""


def _scale(result: str) -> tuple[Figure, ...]:
    ready = next(row for name, row in _SCALE if name == result)
    return (
        of(result, "cold start → all states in the status"),
        of(result, ready),
        of(result, BEYOND),
        of(result, "cold start: CPU of the operator"),
    )


BENCH: Final = (
    bench(
        "{} s with the packages in uv's cache, {} s of them `make init`",
        of("firstpage", "clone to the first page in the browser"),
        of("firstpage", "… make init"),
    ),
    bench(
        "PP-OCR, {} × as many pages a second as by `ocr-inference read`",
        of("jobs", "job against `read`, PP-OCR", ".2f"),
    ),
    bench(
        "reads pages together at {} × the speed",
        of("jobs", "job against requests, a tiny vision-language model", ".1f"),
    ),
    bench(
        "trust CPU time: {} × at 4 rows, {} × at 16, and {} × at 1",
        *(of("decoding", f"step of {rows} rows, large model, CPU time", ".2f") for rows in (4, 16, 1)),
    ),
    bench("16 rows miss their target ({} ×", of("decoding", "step of 16 rows, large model", ".2f")),
    bench(
        "{} beside {}: {} ×, a miss",
        of("ppocr", "ours, pages a second", ".2f"),
        of("ppocr", "bare, pages a second", ".2f"),
        of("ppocr", "16 pages at once: ours ÷ bare", ".2f"),
    ),
    bench(
        "{} and {}, beside {}: {} × (target 0.97) and {} ×",
        of("batched", f"{VLLM}, tokens a second"),
        of("batched", f"{OURS}, tokens a second"),
        of("batched", f"{ALONE}, tokens a second"),
        of("batched", f"{VLLM} ÷ {ALONE}", ".2f"),
        of("batched", f"{OURS} ÷ {ALONE}", ".2f"),
    ),
    bench(
        "{} × as late from deep idle as from a start of vLLM ({} and {} s; target 0.1 ×), and {} × from unloaded",
        of("coldstart", f"first token: {OURS} from deep idle ÷ {ALONE} from its start", ".2f"),
        of("coldstart", f"{OURS}: from deep idle to the first token, median", ".2f"),
        of("coldstart", f"{ALONE}: from unloaded to the first token, median"),
        of("coldstart", f"first token: {OURS} from unloaded ÷ {ALONE} from its start", ".2f"),
    ),
    bench(
        "takes {} × with engine `vllm` and {} × with `transformers`",
        of("coldstart", f"first page after a load: {VLLM} ÷ {ALONE}", ".2f"),
        of("coldstart", f"first page after a load: {OURS} ÷ {ALONE}", ".2f"),
    ),
    bench(
        "A cold start takes {} s, and {} s with the gate absent: {} s more (target 60), of which {} s",
        *_scale("scale"),
    ),
    bench(
        "The cold start takes {} s, and {} s with the gate absent, {} s more (target 60), of which {} s",
        *_scale("scale-5000-pods"),
    ),
    bench(
        "takes {} MiB (target 300) and {} % of a core (target 5). A patch",
        *(of("scale", *each) for each in AT_REST[:2]),
    ),
    bench(
        "{} MiB (target 300) and {} % of a core at rest",
        *(of("scale-5000-pods", *each) for each in AT_REST[:2]),
    ),
    bench(
        "With 100, 300, 1,000 and 3,000: CPU of the bring-up {}, {}, {} and {} s",
        *(of("growth", f"{n} resources: CPU of the bring-up", form) for n, form in GROWN),
    ),
    bench(
        "after {} s instead of {} s, {} × in the median",
        of("again", "kept, again, median", ".2f"),
        of("again", "not kept, again, median", ".2f"),
        of("again", "a page by a second task, first token: kept ÷ not kept", ".2f"),
    ),
    bench(
        "memory {}, {}, {} and {} MiB", *(of("growth", f"{n} resources: resident memory") for n, _ in GROWN)
    ),
    bench(
        "A tiny DeepSeek-OCR in deep idle takes {} MiB",
        of("idle", f"{TINY}: deep idle"),
    ),
    bench(
        "answers after {} s; without a standby {} MiB and {} s. "
        "PP-OCR takes {} MiB and {} s, without a standby {} MiB and {} s.",
        of("idle", f"{TINY}: deep idle → answer, median", ".2f", 0.001),
        of("idle", f"{TINY}: deep idle without a standby"),
        of("idle", f"{TINY}: deep idle without a standby → answer, median", ".1f", 0.001),
        of("idle", "pp-ocr: deep idle"),
        of("idle", "pp-ocr: deep idle → answer, median", ".2f", 0.001),
        of("idle", "pp-ocr: deep idle without a standby"),
        of("idle", "pp-ocr: deep idle without a standby → answer, median", ".1f", 0.001),
    ),
    bench(
        "Of {} MiB of weights none of its own (target 5 %), and {} × the first server's first load",
        of("sharing", "weights of the model", ",.0f"),
        of("sharing", "second server: first load ÷ the first server's", ".2f"),
    ),
    bench(
        "A page takes {} s, by rapidocr itself {} s",
        *(of("layouts", f"all pages: {who}, a page", ".1f") for who in ("ours", "rapidocr")),
    ),
)


def day(text: str, strategy: str, held: str, mean: str, late: str, p99: str) -> Quote:
    rows = (
        ("GPU-hours held", held),
        ("later, in the mean", mean),
        ("later by more than 10 s", late),
        ("latency p99", p99),
    )
    return Quote(
        "docs/lifecycle.md",
        f"| {text} | {{}} | {{}} s | {{}} % | {{}} s |",
        tuple(of("day", f"{strategy}: {row}", form) for row, form in rows),
    )


DAY: Final = (
    day("`offloadAfterSeconds: 900`", "ours, offloadAfterSeconds 900", ".1f", ".1f", ".1f", ".0f"),
    day("300", "ours, offloadAfterSeconds 300", ".1f", ".1f", ".1f", ".0f"),
    day("60, the default", "ours, offloadAfterSeconds 60", ".1f", ".1f", ".0f", ".0f"),
    day("15", "ours, offloadAfterSeconds 15", ".1f", ".1f", ".0f", ".0f"),
    day("0", "ours, offloadAfterSeconds 0", ".1f", ".1f", ".1f", ".0f"),
    day(
        "scaled to zero after 60 s, cold start", "to zero after 60 s, cold start", ".1f", ".0f", ".0f", ".0f"
    ),
    day("the same after 300 s", "to zero after 300 s, cold start", ".1f", ".0f", ".0f", ",.0f"),
    day("vLLM put to sleep after 60 s", "vLLM sleep after 60 s", ".1f", ".1f", ".0f", ".0f"),
    day("the same after 300 s", "vLLM sleep after 300 s", ".1f", ".0f", ".0f", ",.0f"),
)

DOCS: Final = (
    *DAY,
    Quote("docs/lifecycle.md", "{} pages in bursts", (of("day", "requests of the day", ",.0f"),)),
    Quote(
        "docs/engine-vllm.md",
        "| {} | {} |",
        (
            of("batched", f"{OURS}, tokens a second"),
            of("batched", f"{VLLM}, tokens a second"),
        ),
    ),
    Quote("docs/engine-vllm.md", "| {} MiB | 2.6", (of("idle", f"{TINY}: ready"),)),
    Quote(
        "docs/placement.md",
        "plays {} placements",
        (of("placement", "placements against the oracle", ",.0f"),),
    ),
    Quote("docs/placement.md", "{} pods have a place", (of("scheduler", "pods that have a place", ",.0f"),)),
    Quote(
        "docs/operations.md",
        "2,000 / 5,000 pods | {} / {} MiB |",
        tuple(of(result, "resident memory of the operator") for result, _ in _SCALE),
    ),
    Quote(
        "docs/operations.md",
        "| a change that reaches 100 pods | {} ms, p99 {} ms |",
        tuple(of("fleet", f"patch → applied in 100 pods, {each}") for each in ("p50", "p99")),
    ),
    Quote(
        "docs/operations.md",
        "| uploads, 40 of 48 MiB at once | {} MiB |",
        (of("bodies", "memory with the pages, 40 uploads of 48 MiB in forms"),),
    ),
    *(
        Quote(
            "docs/weights.md",
            f"| {text} | {{}} s | {{}} s |",
            tuple(of("wake", f"{model}: {row}", ".2f", 0.001) for model in (TINY, "pp-ocr")),
        )
        for text, row in (
            ("a page of 320 × 240 by the ready model", "a page by a ready model, median"),
            ("the worker exits at this moment → its answer", "exiting a moment ago → answer, median"),
        )
    ),
    *(
        Quote("docs/weights.md", f"{text} | {{}}", (of("weights", row, form),))
        for text, row, form in (
            (
                "as a share of one allocate + memcpy",
                "simulated: restore, share of one allocate + memcpy",
                ".2f",
            ),
            (
                "fresh memory of the same kind, with as many threads",
                "first load ÷ reading the file into fresh memory, same threads",
                ".2f",
            ),
            ("host tier ÷ weight bytes", "host tier ÷ weight bytes", ".2f"),
            ("into memory of one process", "first load ÷ one read() of the file", ".2f"),
            (
                "every page touched, ÷ our first load",
                "cpu: from_pretrained, all pages touched ÷ our first load",
                ".2f",
            ),
        )
    ),
    Quote(
        "docs/adr/0016-our-transfer-in-the-hubs-cache.md",
        "| to the disk | {} | {} | {} |",
        tuple(of("download", f"{who}, median") for who in ("ours", "hub", "hub, then hashed")),
    ),
    *(
        Quote(
            "docs/adr/0044-waiting-pages-are-handed-over.md",
            f"| {text} | {{}}, {{}} | {{}}, {{}} |",
            tuple(
                of("bursts", f"3 bursts, maxQueuePerPod {pages}, {row}: {what} ÷ all", ".2f")
                for pages in (4, 8)
                for what in ("p99", "residency")
            ),
        )
        for text, row in (
            ("what waits stays where it is", "what waits stays where it is"),
            ("pages are handed over", "pages are handed over"),
        )
    ),
)
QUOTES: Final = (*README, *BENCH, *DOCS)
