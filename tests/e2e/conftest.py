"""Images that several files look at are built once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from container import build
from devcluster.container import requirements
from tests.support import imagebuilds
from tests.support.imagebuilds import BASE, SHELL_LESS, Buildah, Builds
from tests.support.lacking import lacks


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    """Images, built when asked for. What is in the folder OCR_TEST_IMAGE_STORE isn't built again, and stays."""
    imagebuilds.skip_without_tools()
    kept = os.environ.get("OCR_TEST_IMAGE_STORE")
    buildah = Buildah(Path(kept) if kept else tmp_path_factory.mktemp("images"))
    there = buildah.images()
    yield Builds(
        buildah,
        (BASE, SHELL_LESS) if {BASE, SHELL_LESS} <= there else imagebuilds.base(buildah),
        {which: name for which in build.IMAGES if (name := imagebuilds.name(which)) in there},
    )
    if not kept:
        buildah.remove()


@pytest.fixture(scope="session")
def archives(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The usual images as files, for a real node; those in the folder OCR_TEST_IMAGE_ARCHIVES spare the build.

    A machine that can't be a node says so here, before images are built, which takes minutes.
    """
    if (why := requirements.missing()) is not None:
        lacks(why)
    if (why := requirements.forbidden()) is not None:
        pytest.skip(why)
    if given := os.environ.get("OCR_TEST_IMAGE_ARCHIVES"):
        return sorted(Path(given).glob("*.tar"))
    builds: Builds = request.getfixturevalue("builds")
    folder = tmp_path_factory.mktemp("archives")
    return [builds.buildah.archive(builds.name(each), folder / f"{each}.tar") for each in build.USUAL]
