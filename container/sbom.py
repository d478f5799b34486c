"""Write what is in the image's environment: the lock as CycloneDX, without what this platform has no use for.

Run in the image's build with the image's own Python: `uv export --format cyclonedx1.5 … | python sbom.py`. The
export has every package that the lock has for any platform, and each of its files for all of them; an image has one
platform. An environment that a file of pins was installed from has no such export: `python sbom.py --pins FILE`.
"""

import importlib.metadata
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_PIN: Final = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==", re.MULTILINE)


def installed() -> dict[str, importlib.metadata.Distribution]:
    """Return the distributions of this environment by their normalized name."""
    found = {}
    for distribution in importlib.metadata.distributions():
        found[normalized(distribution.metadata["Name"])] = distribution
    return found


def normalized(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def license_of(distribution: importlib.metadata.Distribution) -> str:
    """Return the SPDX expression of a distribution; empty where it only has the older, free form."""
    return str(distribution.metadata.json.get("license_expression") or "")


def pruned(document: dict[str, Any], found: Mapping[str, importlib.metadata.Distribution]) -> dict[str, Any]:
    """Return the document with what is installed only, with licences; raises where it lacks something."""
    kept, references = [], set()
    missing = dict(found)
    root = document["metadata"]["component"]
    missing.pop(normalized(root["name"]), None)
    for component in document["components"]:
        distribution = found.get(normalized(component["name"]))
        if distribution is None or distribution.version != component.get("version"):
            continue
        missing.pop(normalized(component["name"]), None)
        entry = {key: value for key, value in component.items() if key != "externalReferences"}
        if expression := license_of(distribution):
            entry["licenses"] = [{"expression": expression}]
        kept.append(entry)
        references.add(component["bom-ref"])
    if missing:
        raise LookupError(f"installed, but not in the lock: {', '.join(sorted(missing))}")
    references.add(root["bom-ref"])
    edges = [
        each | {"dependsOn": [one for one in each.get("dependsOn", ()) if one in references]}
        for each in document.get("dependencies", ())
        if each["ref"] in references
    ]
    return document | {"components": kept, "dependencies": edges}


def pinned(
    pins: str, found: Mapping[str, importlib.metadata.Distribution], file: str = "requirements.txt"
) -> dict[str, Any]:
    """Return what is installed by `pins`, a requirements file, as CycloneDX; raises where it doesn't name something.

    Versions are those of the packages: hashes have held them to the pins, and packages may write theirs otherwise.
    """
    listed = {normalized(name) for name in _PIN.findall(pins)}
    if strange := found.keys() - listed:
        raise LookupError(f"installed, but not in {file}: {', '.join(sorted(strange))}")
    components = []
    for name, each in sorted(found.items()):
        purl = f"pkg:pypi/{name}@{each.version}"
        entry = {"type": "library", "bom-ref": purl, "name": name, "version": each.version, "purl": purl}
        expression = license_of(each)
        components.append(entry | ({"licenses": [{"expression": expression}]} if expression else {}))
    root = {"type": "application", "bom-ref": file, "name": file}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root},
        "components": components,
        "dependencies": [{"ref": file, "dependsOn": [each["bom-ref"] for each in components]}],
    }


def main(arguments: Sequence[str]) -> int:
    """Filter standard input to standard output, or describe what the pins of a file became."""
    match arguments:
        case []:
            made = pruned(json.load(sys.stdin), installed())
        case ["--pins", file]:
            made = pinned(Path(file).read_text(encoding="utf-8"), installed(), file)
        case _:
            print("usage: sbom.py < lock.json, or sbom.py --pins FILE", file=sys.stderr)
            return 2
    json.dump(made, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
