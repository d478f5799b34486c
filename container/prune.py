"""Delete the generated modules of the Kubernetes client that the operator never imports.

Run in the image's build with the image's own Python: `python prune.py MODULE PACKAGE...`. The client has a file for
each kind of object and each group of the API: 1850 of its 1930 files, loaded one by one when their name is asked
for. What `MODULE` and everything below it has imported stays, whatever that is in this version; of the folders that
hold only such files, the rest goes. A name that is asked for later all the same fails as an import, by name.
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

GENERATED: Final = ("api", "models")
"""Folders below a package called `client` that hold one generated module a name, and an index of them."""


def import_all(name: str) -> None:
    """Import a package and all modules in it, which is more than what the program loads at its start."""
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        importlib.import_module(module.name)


def loaded() -> set[Path]:
    """Return the files of the modules that are imported."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {Path(file).resolve() for file in files if file}


def unused(package: Path, used: Iterable[Path]) -> Iterator[Path]:
    """Yield the generated modules of a package, and their bytecode, that aren't used."""
    used = set(used)
    for kind in GENERATED:
        for folder in sorted(package.glob(f"**/client/{kind}")):
            for source in sorted(folder.glob("*.py")):
                if source.name != "__init__.py" and source.resolve() not in used:
                    yield source
                    yield from sorted((folder / "__pycache__").glob(f"{source.stem}.*.pyc"))


def main(arguments: list[str]) -> int:
    """Prune, and fail where nothing could be pruned: the client is then laid out in another way than this expects."""
    program, *packages = arguments
    import_all(program)
    used = loaded()
    for name in packages:
        [place] = importlib.import_module(name).__path__
        files = list(unused(Path(place), used))
        size = sum(file.stat().st_size for file in files)
        for file in files:
            file.unlink()
        print(f"{name}: {len(files)} files that nothing imports, {size / 2**20:.0f} MiB, left out")
        if not files:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
