"""The suite that every engine passes, the fake one included: a class of tests for each to inherit."""

import io
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from PIL import Image

from ocr_inference import engines
from ocr_inference.protocol.engine import Engine, EngineError, Failure, InferRequest, ModelSpec, PageResult
from ocr_inference.protocol.host_tier import HostTier
from ocr_wire.engines import BY_NAME
from tests.support.engines import picture
from tests.support.paths import INVOICE


def heading() -> bytes:
    """A corner of the invoice: a few words, read in a moment, as it is hardly wider than high."""
    data = io.BytesIO()
    with Image.open(INVOICE) as image:
        image.convert("RGB").crop((600, 20, 880, 180)).save(data, "PNG")
    return data.getvalue()


PAGE = InferRequest(image=heading())


def answer(engine: Engine, request: InferRequest = PAGE) -> PageResult:
    (result,) = engine.infer([request])
    assert isinstance(result, PageResult), result
    return result


def failure(engine: Engine, data: bytes, max_pixels: int = 1_000_000) -> Failure:
    (result,) = engine.infer([InferRequest(image=data, max_pixels=max_pixels)])
    assert isinstance(result, Failure)
    return result


class EngineSuite:
    engine: ClassVar[str]
    """Its name in the registry."""

    @pytest.fixture
    def host(self) -> Iterator[HostTier]:
        tier = HostTier.create("test")
        yield tier
        tier.close()

    @pytest.fixture
    def spec(self) -> ModelSpec:
        """What the engine is made of."""
        return ModelSpec(name="m", engine=self.engine)

    @pytest.fixture
    def offloads(self, spec: ModelSpec) -> bool:
        """Whether its weights can leave the device here."""
        return spec.device in BY_NAME[self.engine].offloads_on

    @pytest.fixture
    def outlives(self) -> bool:
        """Whether weights in host memory are in the host tier, for other workers, too."""
        return BY_NAME[self.engine].outlives_worker

    @pytest.fixture
    def make(self, spec: ModelSpec, host: HostTier) -> Callable[[], Engine]:
        return lambda: engines.create(spec, host)

    def test_the_whole_life_with_equal_answers(
        self, make: Callable[[], Engine], host: HostTier, offloads: bool, outlives: bool
    ) -> None:
        engine = make()
        loaded = engine.load()
        assert loaded.host_bytes > 0 or offloads
        assert host.size == (loaded.host_bytes if outlives else 0)
        assert loaded.device_bytes > 0
        first = answer(engine)
        for _ in range(2 if offloads else 0):
            offloaded = engine.offload()
            assert (offloaded.device_bytes, offloaded.host_bytes) == (0, loaded.host_bytes)
            assert engine.restore() == loaded
            again = answer(engine)
            assert (again.text, again.lines) == (first.text, first.lines)
        if not offloads:
            with pytest.raises(EngineError, match="can't leave"):
                engine.offload()
            assert answer(engine).text == first.text, "nothing has happened"
        unloaded = engine.unload()
        assert (unloaded.device_bytes, unloaded.host_bytes, host.size) == (0, 0, 0)
        again_loaded = engine.load()
        assert again_loaded == loaded or not outlives, "another process takes about as much"
        assert answer(engine).text == first.text

    def test_a_clean_up_changes_no_answer(self, make: Callable[[], Engine], offloads: bool) -> None:
        engine = make()
        engine.clean_up()
        engine.load()
        first = answer(engine)
        engine.clean_up()
        again = answer(engine)
        assert (again.text, again.lines) == (first.text, first.lines)
        if offloads:
            engine.offload()
            engine.clean_up()
            engine.restore()
        assert answer(engine).text == first.text
        assert engine.device_use() is None, "there is no CUDA device here"

    def test_a_fresh_process_restores_from_the_host_tier(
        self, make: Callable[[], Engine], outlives: bool
    ) -> None:
        if not outlives:
            pytest.skip("its weights end with the worker")
        loader = make()
        loader.load()
        first = answer(loader)
        loader.offload()
        successor = make()
        successor.restore()
        assert answer(successor).text == first.text

    def test_an_empty_host_tier_is_not_restored(self, make: Callable[[], Engine]) -> None:
        with pytest.raises(EngineError, match="host memory"):
            make().restore()

    def test_unload_works_in_every_state(
        self, make: Callable[[], Engine], host: HostTier, offloads: bool
    ) -> None:
        engine = make()
        engine.unload()
        engine.load()
        if offloads:
            engine.offload()
        engine.unload()
        assert host.size == 0

    def test_pages_fail_alone(self, make: Callable[[], Engine]) -> None:
        engine = make()
        engine.load()
        good, bad, also_good = engine.infer(
            [
                InferRequest(image=picture()),
                InferRequest(image=b"GIF89a?"),
                InferRequest(image=picture(20, 60)),
            ]
        )
        assert isinstance(good, PageResult)
        assert isinstance(bad, Failure)
        assert isinstance(also_good, PageResult)
        assert (also_good.width, also_good.height) == (20, 60)

    def test_a_model_that_is_not_loaded_says_so(self, make: Callable[[], Engine]) -> None:
        assert "not loaded" in failure(make(), picture()).message

    def test_sizes_are_of_the_upright_picture(self, make: Callable[[], Engine]) -> None:
        engine = make()
        engine.load()
        data = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6  # turn right by 90 degrees to look at it
        Image.new("RGB", (60, 40), "white").save(data, "JPEG", exif=exif)
        result = answer(engine, InferRequest(image=data.getvalue()))
        assert (result.width, result.height) == (40, 60)
