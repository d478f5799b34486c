"""A PATH on which nothing is that clusters need."""

from pathlib import Path


def without_programs(folder: Path) -> Path:
    """Make a folder for PATH with a uv that reaches no index, and nothing else, and return it."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "uv").write_text("#!/bin/sh\necho 'no route to the index' >&2\nexit 1\n")
    (programs / "uv").chmod(0o755)
    return programs
