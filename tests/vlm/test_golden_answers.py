"""Greedy answers of seeded checkpoints, token for token as they were stored: from the page's bytes through tiles,
prompt, conversion of the weights and every layer. Whatever changes a token changes what real models write.

`test_transformers_engine` compares the engine with what is compared with the stored tokens here.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch

from tests.support import greedy

# Processors of transformers hand Pillow's pictures to numpy in a way that numpy will drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

STORED = json.loads(greedy.GOLDEN.read_text())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small models compute no faster with more, and tests run beside others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_case_is_stored() -> None:
    assert STORED.keys() == greedy.CASES.keys()
    for kind, answers in STORED.items():
        assert [len(each) for each in answers] == [case["max_tokens"] for case in greedy.CASES[kind]]
        if (
            kind != "lighton_ocr"
        ):  # its head is tied to what it reads, so that it repeats itself with any seed
            assert all(len(set(each)) > 8 for each in answers), "a model that repeats itself shows little"


@pytest.mark.parametrize("kind", greedy.CASES)
def test_tokens_are_the_stored_ones(kind: str, tmp_path: Path) -> None:
    assert greedy.answers(greedy.make(tmp_path, kind), kind) == STORED[kind]
