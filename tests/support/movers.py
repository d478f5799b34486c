"""A GPU without torch: models that know where they are, and a device with a capacity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocr_inference.library.moving import Resident


@dataclass(eq=False)
class FakeModel:
    """Model that a load function returned."""

    nbytes: int = 10
    kept_whole: str = ""
    on_device: bool = False
    moves: list[str] = field(default_factory=list)


class FakeResident:
    def __init__(self, model: FakeModel, mover: "FakeMover") -> None:
        self.loaded: Any = model
        self.kept_whole = model.kept_whole
        self._model = model
        self._mover = mover
        self.host_bytes = model.nbytes

    @property
    def on_device(self) -> bool:
        return self._model.on_device

    @property
    def size_bytes(self) -> int:
        return self._model.nbytes if self._mover.on_gpu else 0

    @property
    def copied_bytes(self) -> tuple[int, int]:
        return self._model.moves.count("to_device") * self._model.nbytes, 0

    def to_device(self) -> None:
        if self.on_device or not self._mover.on_gpu or self.kept_whole:
            return
        self._mover.take_memory(self._model.nbytes)
        self._model.moves.append("to_device")
        self._model.on_device = True

    def offload(self) -> None:
        assert not (self.kept_whole and self.on_device)
        if self.on_device:
            self._leave("offload")

    def release(self) -> None:
        if self.on_device:
            self._leave("release")
        self.loaded, self.host_bytes = None, 0

    def _leave(self, how: str) -> None:
        self._model.moves.append(how)
        self._model.on_device = False
        self._mover.used_bytes -= self._model.nbytes


class FakeMover:
    """Device of so many bytes; None: of any number. Its calls are made by one thread at a time in these tests, or
    count with what one thread can do at once."""

    name = "fake"

    def __init__(self, capacity: int | None = None, *, on_gpu: bool = True) -> None:
        self.capacity = capacity
        self.on_gpu = on_gpu
        self.used_bytes = 0
        self.most_bytes = 0
        self.refusals = 0

    def enter(self) -> None:
        pass

    def take_memory(self, nbytes: int) -> None:
        if self.capacity is not None and self.used_bytes + nbytes > self.capacity:
            self.refusals += 1
            raise MemoryError(f"{nbytes} bytes, of which {self.capacity - self.used_bytes} are free")
        self.used_bytes += nbytes
        self.most_bytes = max(self.most_bytes, self.used_bytes)

    def take(self, loaded: object, modules: Sequence[Any] | None = None) -> Resident:
        assert isinstance(loaded, FakeModel)
        if loaded.on_device:
            self.take_memory(loaded.nbytes)
        return FakeResident(loaded, self)

    def ran_out(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def clear(self) -> None:
        pass

    def memory(self) -> Mapping[str, float]:
        return {"gpu_memory_allocated": float(self.used_bytes), "gpu_memory_reserved": float(self.used_bytes)}
