"""Which GPU the variables mean, in containers and on machines without them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config import environment
from ocr_inference.config.settings import Settings
from ocr_inference.device import choosing, visible
from ocr_inference.device.gpu import Gpu, NoDevice
from ocr_inference.device.least_used import Load


def gpus(*uuids: str, product: str = "NVIDIA L40S") -> tuple[Gpu, ...]:
    return tuple(Gpu(f"GPU-{each}", product, 1000) for each in uuids)


ONE, TWO, FOUR = gpus("aa"), gpus("aa", "bb"), gpus("aa", "ab", "c", "d")
MIXED = (*gpus("aa"), *gpus("bb", product="NVIDIA A10"))


@pytest.mark.parametrize(
    ("nvidia", "here", "uuid"),
    [
        ("2", ONE, "GPU-aa"),
        ("0", ONE, "GPU-aa"),
        ("7", ONE, "GPU-aa"),
        ("2,2", ONE, "GPU-aa"),
        ("0,2", TWO, "GPU-aa"),
        ("2,0", TWO, "GPU-bb"),
        ("1,0", TWO, "GPU-bb"),
        ("3, 5", TWO, "GPU-aa"),
        ("1", TWO, "GPU-bb"),
        ("2", FOUR, "GPU-c"),
        ("2,1", FOUR, "GPU-c"),
        ("GPU-c", FOUR, "GPU-c"),
        ("GPU-ab,GPU-aa", FOUR, "GPU-ab"),
        ("GPU-b", TWO, "GPU-bb"),
    ],
)
def test_a_list_means_what_the_runtime_made_of_it(nvidia: str, here: tuple[Gpu, ...], uuid: str) -> None:
    assert choosing.pick(Settings(visible_devices=nvidia), here, {}).uuid == uuid


@pytest.mark.parametrize(
    ("nvidia", "here"),
    [
        ("2", TWO),
        ("GPU-x", ONE),
        ("GPU-a", FOUR),
        ("GPU-", ONE),
        ("+0", FOUR),
        ("1_0", ONE),
        ("x", ONE),
        (",", ONE),
    ],
)
def test_what_is_not_here_is_named(nvidia: str, here: tuple[Gpu, ...]) -> None:
    with pytest.raises(NoDevice, match=r"NVIDIA_VISIBLE_DEVICES names .* there are GPU-aa"):
        choosing.pick(Settings(visible_devices=nvidia), here, {})


@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_filtered_list_is_the_gpu_that_an_unfiltered_machine_means(order: list[int], count: int) -> None:
    machine, asked = gpus(*"abcdef"), order[:count]
    meant = machine[asked[0]]
    shown = tuple(gpu for number, gpu in enumerate(machine) if number in asked)
    assert visible.named(",".join(map(str, asked)), shown) == meant


@pytest.mark.parametrize("nvidia", [None, "all", "void"])
def test_all_that_is_here_was_given_also_by_cdi(nvidia: str | None) -> None:
    assert choosing.pick(Settings(visible_devices=nvidia), TWO, {}).uuid == "GPU-aa"
    promised = Settings(visible_devices=nvidia, promised_gpu_uuids=("GPU-bb",))
    assert choosing.pick(promised, TWO, {}).uuid == "GPU-bb"
    one_of = Settings(visible_devices=nvidia, promised_gpu_uuids=("GPU-elsewhere", "GPU-bb", "GPU-aa"))
    assert choosing.pick(one_of, TWO, {}).uuid == "GPU-bb"


def test_none_is_none_though_there_is_one() -> None:
    with pytest.raises(NoDevice, match="'none' hides every GPU"):
        choosing.pick(Settings(visible_devices="none"), ONE, {})


@pytest.mark.parametrize(
    ("cuda", "here", "uuids"),
    [
        (None, TWO, "GPU-aa GPU-bb"),
        ("", TWO, ""),
        ("-1", TWO, ""),
        ("1", TWO, "GPU-bb"),
        ("2,1", FOUR, "GPU-c GPU-ab"),
        ("0,2,-1,1", FOUR, "GPU-aa GPU-c"),
        ("0,9,1", FOUR, "GPU-aa"),
        ("1,1", FOUR, ""),
        ("0, 1", TWO, "GPU-aa GPU-bb"),
        ("GPU-c,GPU-a,GPU-d", FOUR, "GPU-c"),
        ("GPU-bb", MIXED, "GPU-bb"),
        ("nonsense", TWO, ""),
    ],
)
def test_cuda_reads_its_list_up_to_the_first_that_is_not_here(
    cuda: str | None, here: tuple[Gpu, ...], uuids: str
) -> None:
    assert " ".join(gpu.uuid for gpu in visible.by_cuda(cuda, None, here)) == uuids


def test_numbers_of_different_gpus_need_an_order() -> None:
    with pytest.raises(NoDevice, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        visible.by_cuda("1", None, MIXED)
    with pytest.raises(NoDevice, match="by speed"):
        visible.by_cuda("1", "FASTEST_FIRST", MIXED)
    assert visible.by_cuda("1", "PCI_BUS_ID", MIXED) == [MIXED[1]]


@pytest.mark.parametrize(
    ("nvidia", "cuda", "uuid"),
    [
        (None, "1", "GPU-bb"),
        ("all", "1,0", "GPU-bb"),
        ("void", "1", "GPU-bb"),
        ("auto", "0", "GPU-aa"),
        ("auto", "0,1", "GPU-bb"),
        (None, "0,1", "GPU-aa"),
        ("all", "0,1", "GPU-aa"),
        ("2,0", "0,1", "GPU-bb"),
        ("2,0", "0", "GPU-aa"),
        ("GPU-bb", "GPU-b", "GPU-bb"),
    ],
)
def test_both_variables_together(nvidia: str | None, cuda: str, uuid: str) -> None:
    settings = Settings(visible_devices=nvidia, cuda_visible_devices=cuda)
    assert choosing.pick(settings, TWO, {"GPU-aa": Load(500)}).uuid == uuid


def test_a_list_of_cuda_without_any_gpu_here_is_named() -> None:
    with pytest.raises(
        NoDevice, match="CUDA_VISIBLE_DEVICES='7' names no GPU that is here; there are GPU-aa"
    ):
        choosing.pick(Settings(cuda_visible_devices="7"), ONE, {})


def test_empty_and_unset_differ_for_cuda_only() -> None:
    assert environment.read({}).cuda_visible_devices is None
    read = environment.read({"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": ""})
    assert (read.cuda_visible_devices, read.visible_devices) == ("", None)
