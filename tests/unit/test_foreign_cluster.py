"""Tests on the cluster of `KUBECONFIG`: when that is meant, and what counts as the same definition."""

import pytest

from tests.support import foreign
from tests.support.operators import image_values

BOTH = {foreign.OPERATOR_IMAGE: "here/operator:1", foreign.INFERENCE_IMAGE: "here/inference:1"}


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({}, False),
        ({"KUBECONFIG": "/k"}, False),
        ({"KUBECONFIG": "/k", foreign.OPT_IN: ""}, False),
        ({"KUBECONFIG": "/k", foreign.OPT_IN: "devcluster"}, False),
        ({"KUBECONFIG": "/k", foreign.OPT_IN: "kubeconfig"}, True),
    ],
)
def test_a_kubeconfig_alone_is_no_wish(environ: dict[str, str], answer: bool) -> None:
    assert foreign.wanted(environ) is answer


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({foreign.OPT_IN: "kubeconfig"}, "KUBECONFIG isn't set"),
        ({foreign.OPT_IN: "kubeconfig", "KUBECONFIG": ""}, "KUBECONFIG isn't set"),
        ({foreign.OPT_IN: "yes", "KUBECONFIG": "/k"}, "'yes'"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(environ: dict[str, str], says: str) -> None:
    with pytest.raises(pytest.UsageError, match=says):
        foreign.wanted(environ)


def test_images_are_named_together() -> None:
    assert foreign.images({}) is None
    assert foreign.images(BOTH) == ("here/operator:1", "here/inference:1")
    with pytest.raises(pytest.UsageError, match=foreign.INFERENCE_IMAGE):
        foreign.images({**BOTH, foreign.INFERENCE_IMAGE: ""})


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("ocr", ("ocr", "", "")),
        ("localhost:5000/a/ocr", ("localhost:5000/a/ocr", "", "")),
        ("localhost:5000/a/ocr:2", ("localhost:5000/a/ocr", "2", "")),
        ("here/ocr:2@sha256:ab", ("here/ocr", "2", "sha256:ab")),
    ],
)
def test_image_becomes_values_of_the_chart(image: str, parts: tuple[str, str, str]) -> None:
    assert tuple(image_values(image).values()) == parts


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ({"names": {"kind": "A"}, "versions": [{"name": "v1"}]}, True),
        ({"names": {"kind": "A", "listKind": "AList"}, "versions": [{"name": "v1", "served": True}]}, True),
        ({"names": {"kind": "A"}, "versions": [{"name": "v1"}, {"name": "v2"}]}, False),
        ({"names": {"kind": "B"}, "versions": [{"name": "v1"}]}, False),
        ({"versions": [{"name": "v1"}]}, False),
        (None, False),
    ],
)
def test_a_definition_is_ours_whatever_was_filled_in(found: object, answer: bool) -> None:
    assert foreign.contains(found, {"names": {"kind": "A"}, "versions": [{"name": "v1"}]}) is answer
