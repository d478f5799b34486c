"""Writes the digests of the definitions into `wire/ocr_wire/definitions.py`: `make crds`."""

import re

from ocr_wire import definitions, names
from tests.support.paths import ROOT
from tests.support.resources import crd_schema

FILE = ROOT / "wire" / "ocr_wire" / "definitions.py"
FIELDS = {"PLURAL": names.PLURAL, "POLICY_PLURAL": names.POLICY_PLURAL}


def main() -> None:
    text = FILE.read_text(encoding="utf-8")
    for field, plural in FIELDS.items():
        digest = definitions.digest(crd_schema(plural))
        text = re.sub(rf'(names\.{field}: )"\w*"', rf'\1"{digest}"', text)
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
