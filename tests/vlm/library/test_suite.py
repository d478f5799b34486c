"""The library's suite where there is no GPU: on a second buffer in host memory that stands for one, and without any."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.support.librarysuite import LibrarySuite


class TestSimulated(LibrarySuite):
    device = "simulated"
    torch_device = "cpu"


class TestCpu(LibrarySuite):
    device = "cpu"
    torch_device = "cpu"
    moves = False
