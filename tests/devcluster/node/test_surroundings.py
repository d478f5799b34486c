from pathlib import Path

import pytest
import yaml

from devcluster.kube.api import access
from devcluster.node.decide import devices, surroundings
from devcluster.node.decide.podspec import TOKEN_MOUNT, ConfigError

FOLDER = Path("/node/gpus")
GPUS = devices.simulated("gpu-a", 2, "NVIDIA-L40S", 46068)
FIRST = GPUS[0].uuid


def gpu_variables(
    held: list[str] | None = None, gpus: list[devices.Gpu] = GPUS, **values: str
) -> dict[str, str]:
    return surroundings.gpu_variables("gpu-a", gpus, FOLDER, held or [], values)


def test_a_container_without_gpu_computes_on_the_cpu() -> None:
    assert gpu_variables() == {"OCR_SIMULATED_GPU_DIR": "/node/gpus", "OCR_DEVICE": "cpu"}
    assert gpu_variables(gpus=[]) == {"OCR_DEVICE": "cpu"}


def test_allocated_gpu_is_visible_and_simulated() -> None:
    assert gpu_variables([FIRST], NVIDIA_VISIBLE_DEVICES="all") == {
        "NVIDIA_VISIBLE_DEVICES": FIRST,
        "OCR_SIMULATED_GPU_DIR": "/node/gpus",
        "OCR_DEVICE": "simulated",
    }


def test_gpu_named_by_the_container_is_simulated_too() -> None:
    assert gpu_variables(NVIDIA_VISIBLE_DEVICES=FIRST)["OCR_DEVICE"] == "simulated"
    assert gpu_variables(NVIDIA_VISIBLE_DEVICES="none")["OCR_DEVICE"] == "cpu"


def test_explicit_device_is_never_overridden() -> None:
    assert gpu_variables([FIRST], OCR_DEVICE="cpu")["OCR_DEVICE"] == "cpu"


def test_gpu_of_another_node_is_refused() -> None:
    with pytest.raises(ConfigError, match="node gpu-a has no GPU GPU-other"):
        gpu_variables(NVIDIA_VISIBLE_DEVICES="GPU-other")


def test_fixed_paths_have_variables() -> None:
    places, config = {"/tmp": "/pod/tmp", TOKEN_MOUNT: "/pod/account"}, Path("/pod/kubeconfig")
    assert surroundings.place_variables({}, places, config) == {
        "TMPDIR": "/pod/tmp",
        "KUBECONFIG": "/pod/kubeconfig",
    }
    assert surroundings.place_variables({"TMPDIR": "/x", "KUBECONFIG": "/y"}, places, config) == {}
    assert surroundings.place_variables({}, {}, config) == {}


def test_kubeconfig_is_one_that_clients_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "ca.crt").write_text("PEM")
    text = surroundings.kubeconfig("https://127.10.0.1:6443", "docs", str(tmp_path))
    (tmp_path / "kubeconfig").write_text(text)
    how = access(tmp_path / "kubeconfig")
    assert (how.server, how.token, how.ca) == ("https://127.10.0.1:6443", "secret", "PEM")
    assert yaml.safe_load(text)["contexts"][0]["context"]["namespace"] == "docs"
