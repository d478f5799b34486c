"""Lines are read as the library of Prometheus reads them, in time that grows with their bytes only."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ocr_operator.gpuload import exposition
from ocr_operator.gpuload.exposition import MAX_SAMPLES

NAME = "DCGM_FI_DEV_FB_USED"


def read(text: str | bytes) -> list[exposition.Sample]:
    return list(exposition.samples(text, [NAME]))


def by_the_library(line: str) -> list[exposition.Sample]:
    return [
        (sample.name, sample.labels, float(sample.value))
        for family in text_string_to_metric_families(line + "\n")
        for sample in family.samples
    ]


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\n\r\\"'), max_size=8)
ESCAPED = st.lists(st.one_of(VALUES, st.sampled_from(["\\\\", '\\"', "\\n"])), max_size=4).map("".join)
NAMES = st.from_regex("[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True).filter(
    lambda each: not each.startswith("__")
)
"""Those that begin with `__` are reserved, and the library refuses them."""
LABELS = st.dictionaries(NAMES, ESCAPED, max_size=5)
NUMBERS = st.one_of(
    st.floats().map(repr), st.integers(-(2**40), 2**40).map(str), st.sampled_from(["+Inf", "NaN", "1e3"])
)


@given(LABELS, NUMBERS, st.sampled_from(["", " 1795593600123"]), st.sampled_from([" ", "\t ", "  "]))
def test_a_line_is_read_as_the_library_reads_it(
    labels: dict[str, str], value: str, stamp: str, blank: str
) -> None:
    inner = ",".join(f'{name}="{text}"' for name, text in labels.items())
    line = f"{NAME}{{{inner}}}{blank}{value}{stamp}" if labels else f"{NAME}{blank}{value}{stamp}"
    [ours], [theirs] = read(line), by_the_library(line)
    assert ours[:2] == theirs[:2]
    assert ours[2] == theirs[2] or (math.isnan(ours[2]) and math.isnan(theirs[2]))


@pytest.mark.parametrize(
    "line",
    [
        NAME,
        f"{NAME}_TOO 1",
        f"#{NAME} 1",
        f'{NAME}{{a="b"',
        f'{NAME}{{a="b" c="d"}} 1',
        f'{NAME}{{a="b",a="c"}} 1',
        f"{NAME}{{a=b}} 1",
        f"{NAME} twelve",
        f"{NAME} 1_000",
        f"{NAME} 1 2 3",
        f'{NAME}{{a="{"b" * exposition.MAX_LINE}"}} 1',
    ],
)
def test_a_line_that_cannot_be_read_costs_only_itself(line: str) -> None:
    assert read(f"{line}\n{NAME} 7\n") == [(NAME, {}, 7.0)]


@given(st.text(alphabet=f'{NAME}{{}}a="0",\\\n\r\t 19.e+N#', max_size=200) | st.binary(max_size=200))
def test_no_text_raises(text: str | bytes) -> None:
    read(f"{NAME}{text}" if isinstance(text, str) else NAME.encode() + text)


def test_eight_mebibytes_of_anything_take_a_moment() -> None:
    wide = f'{NAME}{{a="' + '\\"' * 2000 + '"} 1\n'
    labels = f"{NAME}{{" + ",".join(f'a{n}="b"' for n in range(500)) + "} 1\n"
    start = time.process_time()
    for line in (wide, labels, f"{NAME} 1\n", "\n", f'{NAME}{{a="' + "\\" * 4000 + "\n"):
        assert len(read(line * (exposition.MAX_BYTES // len(line)))) <= MAX_SAMPLES
    assert time.process_time() - start < 10, "of the processor: a parser of whole texts takes a minute"
