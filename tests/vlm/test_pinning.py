"""Pinning a buffer chunk by chunk, and what becomes of it when the system refuses."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.checkpoints.weights.pinning import Pinning

START = 1 << 40
SECONDS = 20.0


class Registrar:
    """The calls of a runtime that can pin `limit` bytes."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.pinned: dict[int, int] = {}
        self.calls = 0
        self.entered_by: list[str] = []
        self._limit = limit

    def enter(self) -> None:
        self.entered_by.append(threading.current_thread().name)

    def register(self, address: int, nbytes: int) -> str | None:
        self.calls += 1
        if sum(self.pinned.values()) + nbytes > self._limit:
            return "out of locked memory"
        assert not any(at < address + nbytes and address < at + size for at, size in self.pinned.items())
        self.pinned[address] = nbytes
        return None

    def unregister(self, address: int) -> None:
        del self.pinned[address]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 70))
def test_all_is_pinned_in_chunks_as_far_as_allowed_and_unpinned_again(
    nbytes: int, chunk: int, limit: int
) -> None:
    registrar = Registrar(limit)
    pinning = Pinning(START, nbytes, registrar, chunk_bytes=chunk, pause_seconds=0)
    pinning.start()
    pinning.join(SECONDS)
    fit = nbytes if nbytes <= limit else limit // chunk * chunk
    assert pinning.pinned_bytes == fit
    assert sum(registrar.pinned.values()) == fit
    assert all((address - START) % chunk == 0 for address in registrar.pinned)
    assert [pinning.covers(at) for at in range(nbytes)] == [at < fit for at in range(nbytes)]
    assert registrar.calls == -(-fit // chunk) + (fit < nbytes)
    pinning.stop()
    assert registrar.pinned == {}
    assert not pinning.covers(0)


def test_a_refusal_is_told_once_and_nothing_more_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    pinning = Pinning(START, 100, Registrar(40), chunk_bytes=20, pause_seconds=0)
    pinning.start()
    pinning.join(SECONDS)
    (message,) = (record.message for record in caplog.records)
    assert message == "host memory can't be pinned beyond 40 of 100 bytes: out of locked memory"
    pinning.stop()


def test_it_happens_in_a_thread_of_its_own() -> None:
    registrar = Registrar()
    pinning = Pinning(START, 10, registrar)
    pinning.start()
    pinning.join(SECONDS)
    assert registrar.entered_by == ["pin-weights"]
    pinning.stop()


class Held(Registrar):
    """Takes its time with the second chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    def register(self, address: int, nbytes: int) -> str | None:
        if address > START:
            self.reached.set()
            assert self.go_on.wait(SECONDS)
        return super().register(address, nbytes)


def test_stopping_in_the_middle_leaves_nothing_pinned() -> None:
    registrar = Held()
    pinning = Pinning(START, 100, registrar, chunk_bytes=10, pause_seconds=0)
    pinning.start()
    assert registrar.reached.wait(SECONDS)
    assert pinning.pinned_bytes == 10
    stopper = threading.Thread(target=pinning.stop)
    stopper.start()
    registrar.go_on.set()
    stopper.join(SECONDS)
    assert not stopper.is_alive()
    assert registrar.pinned == {}
    assert registrar.calls <= 3


def test_torchs_binding_tells_a_refusal_in_words() -> None:
    """Without a driver every call is refused, which shows that names, arguments and codes are the binding's."""
    torch = pytest.importorskip("torch")
    from ocr_inference.engines.transformers import devices

    runtime = getattr(torch._C, "_cudart", None)
    if runtime is None or torch.cuda.is_available():
        pytest.skip("torch has no CUDA, or there is a device: tests/gpu asks it")
    registrar = devices.Registrar(torch.device("cuda", 0), runtime)
    assert "CUDA" in (registrar.register(START, 4096) or "")
    registrar.unregister(START)


def test_a_registration_that_went_well_is_told_from_a_refusal() -> None:
    pytest.importorskip("torch")
    import torch

    from ocr_inference.engines.transformers import devices

    class Runtime:
        """As torch's binding has it: an enumeration in which only success has a name."""

        class cudaError:  # noqa: N801
            success = 0

        def __init__(self, code: int) -> None:
            self.code = code
            self.calls: list[tuple[int, ...]] = []

        def cudaHostRegister(self, *arguments: int) -> int:
            self.calls.append(arguments)
            return self.code

        def cudaGetErrorString(self, code: int) -> str:
            return f"error {code}"

    good, bad = Runtime(0), Runtime(712)
    assert devices.Registrar(torch.device("cpu"), good).register(START, 4096) is None
    assert good.calls == [(START, 4096, 0)]
    assert devices.Registrar(torch.device("cpu"), bad).register(START, 4096) == "error 712"
