"""docs/devcluster.md names every module of devcluster once, in the row of its room."""

import re

from devcluster.machine.layout import CHECKOUT

PACKAGE = CHECKOUT / "devcluster"


def rooms() -> dict[str, list[str]]:
    """Room → modules, as the page's table has them; the top, the ground and rooms of one module count as no room."""
    page = (CHECKOUT / "docs" / "devcluster.md").read_text(encoding="utf-8")
    _, _, section = page.partition("\n## Rooms\n")
    found: dict[str, list[str]] = {"": []}
    for first, last in re.findall(r"^\| (.+?) \|.*?\| (.*)\|$", section.partition("\n## ")[0], re.MULTILINE):
        room = re.fullmatch(r"`([\w/]+)`", first)
        modules = re.findall(r"`(\w+)`", last)
        if room and room[1].endswith("/"):
            found[room[1].rstrip("/")] = modules
        else:
            found[""] += [room[1]] if room else modules
    return found


def test_every_module_has_one_row() -> None:
    there: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.stem != "__init__":
            room = path.parent.relative_to(PACKAGE).as_posix()
            there.setdefault(room if room != "." else "", []).append(path.stem)
    named = {room: sorted(modules) for room, modules in rooms().items()}
    assert named == {room: sorted(modules) for room, modules in there.items()}
