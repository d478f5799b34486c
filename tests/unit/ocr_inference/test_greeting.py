"""What a server says at its start."""

from pathlib import Path

import pytest

from ocr_inference import greeting
from ocr_inference.config.settings import Settings
from ocr_inference.device.gpu import Device
from ocr_inference.greeting import Place

URL = "http://127.0.0.1:8001"
GPU = Device("cuda", "GPU-2f1d", "NVIDIA L40S", 48 << 30)
TOKEN = Path("/run/secrets/admin")


def said(host: str, place: Place, device: Device = GPU, token: Path | None = None) -> list[str]:
    return list(greeting.lines(URL, device, Settings(host=host, admin_token_file=token), place))


def test_the_first_sentence_has_the_urls_and_the_gpu() -> None:
    words = f"serving on {URL}, page {URL}/, docs {URL}/docs"
    assert said("127.0.0.1", Place.MACHINE) == [f"{words}, GPU NVIDIA L40S GPU-2f1d (48.0 GiB)"]
    assert said("127.0.0.1", Place.MACHINE, Device("cpu")) == [f"{words}, CPU"]
    simulated = Device("simulated", "GPU-a", "NVIDIA L40S", 48 << 30)
    assert said("", Place.POD, simulated) == [f"{words}, simulated GPU NVIDIA L40S GPU-a (48.0 GiB)"]


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_container_says_which_port_to_publish(host: str) -> None:
    publish, access = said(host, Place.CONTAINER)[1:]
    assert publish == (
        "in a container: publish port 8001, as by docker run --publish 127.0.0.1:8001:8001, and open"
        " http://localhost:8001/ on its host"
    )
    assert access.startswith("whoever reaches port 8001 may read pages and control models")
    assert access.endswith("or publish it at 127.0.0.1 alone")
    assert said(host, Place.CONTAINER, token=TOKEN)[1:] == [publish]


def test_a_container_that_nobody_can_reach_says_so() -> None:
    assert said("127.0.0.1", Place.CONTAINER)[1:] == [
        "in a container, at 127.0.0.1 of it alone: unset OCR_HOST to publish port 8001"
    ]


def test_a_machine_without_tokens_says_that_it_is_open() -> None:
    assert said("", Place.MACHINE)[1].endswith("or OCR_HOST=127.0.0.1")
    assert said("", Place.MACHINE, token=TOKEN)[1:] == []


def test_the_place_is_known_by_what_docker_podman_and_kubernetes_leave(tmp_path: Path) -> None:
    assert greeting.place({}, tmp_path) is Place.MACHINE
    assert greeting.place({"container": "podman"}, tmp_path) is Place.CONTAINER
    (tmp_path / ".dockerenv").touch()
    assert greeting.place({}, tmp_path) is Place.CONTAINER
    assert greeting.place({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path) is Place.POD
