"""The digests are those of the definitions' schemas."""

import pytest

from ocr_wire import definitions, names
from tests.support.resources import crd_schema


@pytest.mark.parametrize("plural", [names.PLURAL, names.POLICY_PLURAL])
def test_digest_is_that_of_the_schema(plural: str) -> None:
    """It changes with every change of the definition: `make crds` writes it."""
    assert definitions.DIGESTS[plural] == definitions.digest(crd_schema(plural))
