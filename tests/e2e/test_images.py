"""The images: built as released, from a base that any Debian-like machine can make without a registry, with no shell
in it.

Needs root, buildah, debootstrap and runc: `make node-tools`. With OCR_TEST_BASE_IMAGE an image of that name is the
base instead. Images of many GB are built where OCR_TEST_CUDA_IMAGE=1 or OCR_TEST_VLLM_IMAGE=1 asks for them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from container import build
from tests.support import checkpoints, contained
from tests.support.imagebuilds import SHELLS, Buildah, Builds
from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

INFERENCE: Final = ("cpu", "cuda", "vllm")
PAGE: Final = ROOT / "examples" / "invoice.png"
OPT_IN: Final = {"cuda": "OCR_TEST_CUDA_IMAGE", "vllm": "OCR_TEST_VLLM_IMAGE"}


@dataclass(frozen=True)
class Image:
    """A built image and a container of it to look into."""

    which: str
    name: str
    buildah: Buildah
    container: str
    mount: Path
    config: dict[str, Any]

    @property
    def program(self) -> str:
        return build.IMAGES[self.which].repository

    def run(self, *command: str, volumes: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        mounts = [part for volume in volumes for part in ("--volume", volume)]
        return self.buildah("run", *mounts, self.container, "--", *command, check=False)

    def run_strictly(
        self, *command: str, files: Mapping[str, Path], environment: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a cluster's strictest policy has it; what the image says of its user doesn't count."""
        with tempfile.TemporaryDirectory() as folder:
            return contained.run(
                Path(folder),
                self.mount,
                command,
                [*self.config["Env"], *environment],
                user=contained.ANY_USER,
                files=files,
                empty=("/tmp", *self.config.get("Volumes", ())),
            )


@pytest.fixture(scope="module", params=build.IMAGES)
def image(request: pytest.FixtureRequest) -> Iterator[Image]:
    which: str = request.param
    if (variable := OPT_IN.get(which)) and os.environ.get(variable) != "1":
        pytest.skip(f"building the target {which} takes {build.IMAGES[which].takes}: set {variable}=1")
    builds: Builds = request.getfixturevalue("builds")
    buildah, name = builds.buildah, builds.name(which)
    container = buildah("from", name).stdout.strip()
    mount = Path(buildah("mount", container).stdout.strip())
    config = json.loads(buildah("inspect", "--type", "image", name).stdout)["OCIv1"]["config"]
    yield Image(which, name, buildah, container, mount, config)
    buildah("rm", container)


def test_program_runs_and_tells_its_version(image: Image) -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    done = image.run(image.program, "--version")
    assert (done.returncode, done.stdout.split()[-1:]) == (0, [version[1]]), done.stderr
    assert image.config["Labels"]["org.opencontainers.image.version"] == version[1]
    assert image.config["Labels"]["org.opencontainers.image.revision"] == "abc"
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_entrypoint_is_the_program(image: Image) -> None:
    assert image.config["Entrypoint"] == [image.program]


def test_user_is_numeric_and_not_root_and_can_write_only_to_temporary_folders(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    check = "import os; print(os.getuid(), *(d for d in ('/', '/opt/venv', '/etc', '/tmp') if os.access(d, os.W_OK)))"
    assert image.run("python3", "-c", check).stdout.split() == ["65532", "/tmp"]


def test_environment_holds_only_what_the_program_needs(image: Image) -> None:
    bins = {path.name for path in (image.mount / "opt/venv/bin").iterdir()}
    assert image.program in bins
    assert not bins & {"uv", "pip", "pip3", "pytest", "mypy", "ruff", "hatchling"}
    assert not (image.mount / "src").exists()
    assert not (image.mount / "opt/uv").exists()
    [packages] = (image.mount / "opt/venv/lib").glob("python3.*/site-packages")
    there = {path.name for path in packages.iterdir()}
    foreign = {"operator": {"onnxruntime", "rapidocr", "torch"}, "cpu": {"kopf", "kubernetes", "torch"}}
    assert not there & foreign.get(image.which, {"kopf", "kubernetes", "vllm"})


def test_no_trace_of_the_machine_that_built_it(image: Image) -> None:
    recorded = json.dumps(image.config) + image.buildah("inspect", "--type", "image", image.name).stdout
    assert str(ROOT) not in recorded
    assert not any(key in recorded for key in ("PIP_INDEX_URL", "UV_INDEX", "HTTPS_PROXY", "https_proxy"))


def test_size_is_bounded(image: Image) -> None:
    """What we add to the base, by the sizes of files; what builders say of the images is in docs/images.md."""
    added = sum(
        file.lstat().st_size
        for file in (image.mount / "opt").rglob("*")
        if file.is_symlink() or file.is_file()
    )
    print(f"{image.name}: {added / 1e6:.0f} MB over its base")
    assert added < {"operator": 80, "cpu": 560, "cuda": 7000, "vllm": 18000}[image.which] * 1_000_000


def test_there_is_no_shell(image: Image) -> None:
    """So all other tests here are without one, too."""
    if os.environ.get("OCR_TEST_BASE_IMAGE"):
        pytest.skip("the base is another one")
    found = [
        shell for folder in ("bin", "usr/bin") for shell in SHELLS if (image.mount / folder / shell).exists()
    ]
    assert not found


def test_bill_of_materials_is_what_is_installed(image: Image) -> None:
    for environment in sorted((image.mount / "opt").glob("v*")):
        document = json.loads((environment / "sbom.cdx.json").read_bytes())
        assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
        listed = {component["name"]: component["version"] for component in document["components"]}
        [packages] = (environment / "lib").glob("python3.*/site-packages")
        there = {
            re.sub(r"[-_.]+", "-", name).lower(): version
            for name, version in (
                folder.name.removesuffix(".dist-info").rsplit("-", 1)
                for folder in packages.glob("*.dist-info")
            )
        }
        if environment.name == "venv":
            assert there.pop("ocr-operator") == document["metadata"]["component"]["version"]
        assert listed == there


@pytest.mark.parametrize("image", ["operator"], indirect=True)
def test_operator_starts_and_says_what_it_lacks(image: Image) -> None:
    done = image.run("ocr-operator")
    assert done.returncode == 1
    assert "set KUBECONFIG, or run in a pod" in done.stderr


@pytest.mark.parametrize("image", ["operator"], indirect=True)
def test_nothing_of_the_kubernetes_client_is_missed(image: Image) -> None:
    """Each module of ours, and of what is left of the client, can be imported."""
    check = (
        "import importlib, pkgutil, kubernetes.aio, ocr_operator\n"
        "for package in (ocr_operator, kubernetes.aio.config, kubernetes.aio.client):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "kubernetes.aio.client.ApiClient, kubernetes.aio.client.Configuration\n"
    )
    done = image.run("python3", "-c", check)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("image", INFERENCE, indirect=True)
def test_inference_reads_a_page(image: Image) -> None:
    done = image.run_strictly("ocr-inference", "read", "/page.png", files={"/page.png": PAGE})
    assert done.returncode == 0, done.stderr
    assert "invoice" in done.stdout.lower()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DeepSeek-OCR of random weights that any user may read."""
    folder = checkpoints.make_deepseek_ocr(
        tmp_path_factory.mktemp("checkpoint"), dtype="float32", context=1000
    )
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.mark.parametrize("image", ["cuda", "vllm"], indirect=True)
def test_vision_language_model_reads_a_page_without_a_gpu(image: Image, checkpoint: Path) -> None:
    """What it reads is what it reads here, by the same lock; the answer ends with the model's context."""
    command = ("read", "--model", str(checkpoint))
    there = image.run_strictly(
        *("ocr-inference", *command, "/page.png"), files={"/page.png": PAGE, str(checkpoint): checkpoint}
    )
    assert there.returncode == 0, there.stderr
    program = Path(sys.executable).with_name("ocr-inference")
    here = subprocess.run(
        [program, *command, str(PAGE)],
        env=os.environ | {"OCR_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == here.stdout
    assert there.stdout.strip()


@pytest.mark.parametrize("image", INFERENCE, indirect=True)
def test_weights_have_a_volume_of_the_user(image: Image) -> None:
    [place] = image.config["Volumes"]
    assert f"OCR_CACHE_DIR={place}" in image.config["Env"]
    folder = (image.mount / place.removeprefix("/")).stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (65532, 0, 0o775)
    check = f"import os; print(os.access({place!r}, os.W_OK))"
    assert image.run("python3", "-c", check).stdout.strip() == "True"


@pytest.mark.parametrize("image", INFERENCE, indirect=True)
def test_the_health_check_runs_and_says_what_is_wrong(image: Image) -> None:
    done = image.run("python3", "-m", "ocr_inference.healthcheck")
    assert done.returncode == 1
    assert "http://127.0.0.1:8001/livez: " in done.stdout


@pytest.mark.parametrize("image", ["cpu"], indirect=True)
def test_a_model_that_the_image_has_no_engine_for_is_refused_at_the_start(image: Image) -> None:
    done = image.run("env", "MODEL_NAME=deepseek-ai/DeepSeek-OCR", "ocr-inference", "serve")
    assert done.returncode == 2
    assert "engine transformers lacks torch" in done.stderr


@pytest.mark.parametrize("image", ["cuda", "vllm"], indirect=True)
def test_image_with_torch_has_it_for_gpus_and_says_that_there_is_none(image: Image) -> None:
    done = image.run_strictly("python3", "-c", "import torch; print(torch.version.cuda)", files={})
    assert int(done.stdout.split(".")[0]) >= 12, done.stderr
    wanted = {"OCR_DEVICE": "cuda", "MODEL_NAME": "deepseek-ai/DeepSeek-OCR"}
    done = image.run_strictly(
        *("ocr-inference", "check", "--json"), files={}, environment=[f"{a}={b}" for a, b in wanted.items()]
    )
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert "device" in {each["subject"] for each in said["findings"] if each["level"] == "problem"}
    assert not said["facts"]["engines"][0]["missing"]
    assert said["facts"]["torch"]["cuda_version"]


@pytest.mark.parametrize("image", ["cuda", "vllm"], indirect=True)
def test_model_of_engine_vllm_without_a_gpu_is_a_problem_that_is_named(image: Image, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "models: [{name: pages, engine: vllm, source: {huggingFace: {repo: Qwen/Qwen2.5-VL-3B-Instruct}}}]\n"
    )
    done = image.run_strictly(
        *("ocr-inference", "check", "--json", "--config=/config.yaml"), files={"/config.yaml": config}
    )
    assert done.returncode == 1, done.stderr
    [said] = [each["message"] for each in json.loads(done.stdout)["findings"] if each["level"] == "problem"]
    assert ("is a build for GPUs" if image.which == "vllm" else "target vllm of Dockerfile.inference") in said


@pytest.mark.parametrize("image", ["vllm"], indirect=True)
def test_vllm_has_an_environment_of_its_own_and_is_imported_without_a_gpu(image: Image) -> None:
    python = "/opt/vllm/bin/python"
    assert f"OCR_VLLM_PYTHON={python}" in image.config["Env"]
    check = "import vllm, torch; print(vllm.__version__, torch.version.cuda)"
    done = image.run_strictly(python, "-c", check, files={})
    assert done.returncode == 0, done.stderr
    version, cuda = done.stdout.split()
    assert f"vllm=={version}\n" == (ROOT / "container" / "vllm.in").read_text(encoding="utf-8")
    assert int(cuda.split(".")[0]) >= 12
