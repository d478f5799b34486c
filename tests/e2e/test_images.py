"""Both images: built as released, from a base that any Debian-like machine can make without a registry.

Needs root, buildah and debootstrap: `apt-get install buildah debootstrap`. With OCR_TEST_BASE_IMAGE an image
of that name is the base instead.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
IMAGES = {"operator": "ocr-operator", "inference": "ocr-inference"}
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Buildah:
    """buildah with a store of its own, so that nothing is left on the machine."""

    store: Path

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # vfs and chroot work where overlay mounts and namespaces don't, as inside a container.
        place = [
            "--root",
            str(self.store / "root"),
            "--runroot",
            str(self.store / "run"),
            "--storage-driver",
            "vfs",
        ]
        environment = {key: value for key, value in os.environ.items() if key != "STORAGE_DRIVER"}
        done = subprocess.run(
            ["buildah", *place, *arguments],
            cwd=ROOT,
            env=environment | {"BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done


@dataclass(frozen=True)
class Image:
    """A built image and a container of it to look into."""

    program: str
    buildah: Buildah
    container: str
    mount: Path
    config: dict[str, Any]

    def run(self, *command: str, volumes: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        mounts = [part for volume in volumes for part in ("--volume", volume)]
        return self.buildah("run", *mounts, self.container, "--", *command, check=False)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        what = f"as root: apt-get install {' '.join(missing)}" if missing else "run as root"
        pytest.skip(f"building images needs root, buildah and debootstrap: {what}")
    store = tmp_path_factory.mktemp("images")
    yield Buildah(store)
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="module")
def base(buildah: Buildah) -> str:
    """A minimal system of this machine's own distribution with python3 and its venv module."""
    if given := os.environ.get("OCR_TEST_BASE_IMAGE"):
        return given
    rootfs = buildah.store / "rootfs"
    release = dict(
        re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    )
    components = "main,universe" if release["ID"] == "ubuntu" else "main"
    packages = "python3,python3-venv,ca-certificates"
    subprocess.run(
        [
            *("debootstrap", "--variant=minbase", f"--components={components}", f"--include={packages}"),
            *(release["VERSION_CODENAME"], str(rootfs), apt_mirror(release["VERSION_CODENAME"])),
        ],
        check=True,
        capture_output=True,
        timeout=600,
    )
    # What this machine trusts; behind a proxy that is more than what the distribution ships.
    shutil.copyfile(CERTIFICATES, rootfs / CERTIFICATES.relative_to("/"))
    container = buildah("from", "scratch").stdout.strip()
    buildah("add", container, str(rootfs), "/")
    buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    buildah("commit", "--rm", container, "localhost/python-base:1")
    shutil.rmtree(rootfs)
    return "localhost/python-base:1"


def apt_mirror(codename: str) -> str:
    """The mirror that apt takes this release from."""
    for file in sorted(Path("/etc/apt").rglob("*.sources")):
        for stanza in file.read_text(encoding="utf-8").split("\n\n"):
            fields = dict(re.findall(r"^(\w[\w-]*):\s*(.+)$", stanza, re.MULTILINE))
            if codename in fields.get("Suites", "").split():
                return str(fields["URIs"].split()[0])
    for file in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))):
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                if found := re.match(rf"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+{codename}\s", line):
                    return str(found[1])
    raise LookupError(f"no file of /etc/apt names a mirror of {codename}")


@pytest.fixture(scope="module", params=IMAGES)
def image(request: pytest.FixtureRequest, buildah: Buildah, base: str) -> Image:
    program = IMAGES[request.param]
    tag = f"localhost/{program}:test"
    arguments = ("--build-arg", f"BASE_IMAGE={base}", "--build-arg", "REVISION=abc")
    buildah("bud", *arguments, "--file", f"Dockerfile.{request.param}", "--tag", tag, ".")
    container = buildah("from", tag).stdout.strip()
    mount = Path(buildah("mount", container).stdout.strip())
    config = json.loads(buildah("inspect", "--type", "image", tag).stdout)["OCIv1"]["config"]
    return Image(program, buildah, container, mount, config)


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
    foreign = {
        "ocr-operator": {"onnxruntime", "rapidocr", "torch"},
        "ocr-inference": {"kopf", "kubernetes", "torch"},
    }
    assert not there & foreign[image.program]


def test_no_trace_of_the_machine_that_built_it(image: Image) -> None:
    recorded = (
        json.dumps(image.config)
        + image.buildah("inspect", "--type", "image", f"localhost/{image.program}:test").stdout
    )
    assert str(ROOT) not in recorded
    assert not any(key in recorded for key in ("PIP_INDEX_URL", "UV_INDEX", "HTTPS_PROXY", "https_proxy"))


def test_size_is_bounded(image: Image) -> None:
    """What we add to the base; measured: 160 MiB and 420 MiB, mostly libraries."""
    added = sum(file.lstat().st_size for file in (image.mount / "opt/venv").rglob("*") if not file.is_dir())
    assert added < {"ocr-operator": 220, "ocr-inference": 520}[image.program] * MEBIBYTE


@pytest.mark.parametrize("image", ["inference"], indirect=True)
def test_inference_reads_a_page(image: Image) -> None:
    page = ROOT / "examples" / "invoice.png"
    done = image.run("ocr-inference", "read", "/tmp/page.png", volumes=(f"{page}:/tmp/page.png:ro",))
    assert done.returncode == 0, done.stderr
    assert "invoice" in done.stdout.lower()


@pytest.mark.parametrize("image", ["inference"], indirect=True)
def test_weights_have_a_volume_of_the_user(image: Image) -> None:
    [place] = image.config["Volumes"]
    assert f"OCR_CACHE_DIR={place}" in image.config["Env"]
    folder = (image.mount / place.removeprefix("/")).stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (65532, 65532, 0o755)
    check = f"import os; print(os.access({place!r}, os.W_OK))"
    assert image.run("python3", "-c", check).stdout.strip() == "True"


@pytest.mark.parametrize("image", ["inference"], indirect=True)
def test_the_health_check_runs_and_says_what_is_wrong(image: Image) -> None:
    done = image.run("python3", "-m", "ocr_inference.healthcheck")
    assert done.returncode == 1
    assert "http://127.0.0.1:8001/livez: " in done.stdout


@pytest.mark.parametrize("image", ["inference"], indirect=True)
def test_a_model_that_the_image_has_no_engine_for_is_refused_at_the_start(image: Image) -> None:
    done = image.run("env", "MODEL_NAME=deepseek-ai/DeepSeek-OCR", "ocr-inference", "serve")
    assert done.returncode == 2
    assert "engine transformers lacks torch" in done.stderr
