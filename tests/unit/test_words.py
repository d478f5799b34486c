"""No dropped word comes back: neither in a name that the code defines, nor in a docstring."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.words import ALLOWED, ANYWHERE, CHECKED, FRAGMENTS, LATER, NAMES, PROSE

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SENTENCE = re.compile(rf"\b({'|'.join([*ANYWHERE, *PROSE])})\b", re.IGNORECASE)
_CODE = re.compile(r"`[^`]*`")

Found = tuple[int, str, str]
"""Line, word, what to say instead."""


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """(line, text, whether of a function or class) of each, those below assignments included."""
    for node in ast.walk(tree):
        for index, each in enumerate(getattr(node, "body", None) or ()) if _has_body(node) else ():
            match each:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield each.lineno, text, index == 0 and not isinstance(node, ast.Module)


def _has_body(node: ast.AST) -> bool:
    return isinstance(getattr(node, "body", None), list)


def dropped(source: str) -> Iterator[Found]:
    """The dropped words of a module."""
    tree = ast.parse(source)
    for line, name in names(tree):
        if name.lstrip("_") in NAMES:
            yield line, name.lstrip("_"), NAMES[name.lstrip("_")]
        for part in _PART.findall(name):
            if part.lower() in ANYWHERE:
                yield line, part.lower(), ANYWHERE[part.lower()]
    for line, text, of_code in docstrings(tree):
        # A dropped name in a span of code is that of a parameter, say, that has another name by now.
        for word in re.findall(r"\w+", " ".join(_CODE.findall(text))):
            if word.lower() in ANYWHERE:
                yield line, word.lower(), ANYWHERE[word.lower()]
        for word in _SENTENCE.findall(_CODE.sub("", text)):
            yield line, word.lower(), {**ANYWHERE, **PROSE}[word.lower()]
        first = text.split(maxsplit=1)[0] if text.strip() else ""
        if of_code and first in FRAGMENTS:
            yield line, first, "begin with a verb, or a noun"


@pytest.mark.parametrize("package", CHECKED)
def test_dropped_words_stay_away(package: str) -> None:
    found = [
        f"{path}:{line}: {word!r}; say: {instead}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for path in [str(file.relative_to(ROOT))]
        if not path.startswith(LATER)
        for line, word, instead in dropped(file.read_text())
        if (path, word) not in ALLOWED
    ]
    assert not found, "\n".join(["tests/support/words.py has the words:", *found])


def test_every_exception_is_needed() -> None:
    for path, word in ALLOWED:
        assert word in {each for _, each, _ in dropped((ROOT / path).read_text())}, (path, word)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("class World: ...", "world"),
        ("class HelloWorld: ...", "world"),
        ("def f(nursery_pid): ...", "nursery"),
        ("self.told = 1", "told"),
        ("def _room(): ...", "room"),
        ('"""Wait until somebody comes."""', "somebody"),
        ('def f():\n    """Of a page."""', "Of"),
        ('x = 1\n"""Who reads it."""', "who"),
        ('def f(limit):\n    """Read more than `crowd` pages."""', "crowd"),
    ],
)
def test_a_dropped_word_is_found(source: str, word: str) -> None:
    assert word in [each for _, each, _ in dropped(source)]


@pytest.mark.parametrize(
    "source", ["class Keyword: ...", "headroom = 1", '"""What is `who` in code."""', 'f(x="nobody")']
)
def test_other_words_are_not(source: str) -> None:
    assert list(dropped(source)) == []


def test_the_packages_exist() -> None:
    assert all(Path(ROOT / package).is_dir() for package in CHECKED)
