"""Images that several files look at are built once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from container.build import USUAL
from devcluster.container import requirements
from tests.support import imagebuilds
from tests.support.imagebuilds import Buildah
from tests.support.lacking import lacks


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    imagebuilds.skip_without_tools()
    store = tmp_path_factory.mktemp("images")
    yield Buildah(store)
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="session")
def bases(buildah: Buildah) -> tuple[str, str]:
    return imagebuilds.base(buildah)


@pytest.fixture(scope="session")
def built(buildah: Buildah, bases: tuple[str, str]) -> dict[str, str]:
    """Names of the images of the operator and of inference pods on the CPU."""
    return {each: buildah.build(each, *bases) for each in USUAL}


@pytest.fixture(scope="session")
def archives(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same as files, for a real node; those in the folder OCR_TEST_IMAGE_ARCHIVES spare the build.

    A machine that can't be a node says so here, before images are built, which takes minutes.
    """
    if (why := requirements.missing()) is not None:
        lacks(why)
    if (why := requirements.forbidden()) is not None:
        pytest.skip(why)
    if given := os.environ.get("OCR_TEST_IMAGE_ARCHIVES"):
        return sorted(Path(given).glob("*.tar"))
    buildah: Buildah = request.getfixturevalue("buildah")
    names: dict[str, str] = request.getfixturevalue("built")
    folder = tmp_path_factory.mktemp("archives")
    return [buildah.archive(name, folder / f"{each}.tar") for each, name in names.items()]
