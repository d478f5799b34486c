"""Command lines whose errors repeat no secret, and whose help reads like a page.

argparse repeats what it doesn't understand: a key behind a mistyped option would stand in the log of whatever ran the
command. Here unknown options are named without their values, and secrets are taken out of all other messages.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from ocr_wire.redaction import redact

MAX_MESSAGE: Final = 400
"""Characters of an error: a whole document may have been pasted."""


class Page(argparse.RawDescriptionHelpFormatter):
    """Help with paragraphs and examples as they are written."""

    def __init__(self, prog: str, **given: Any) -> None:
        super().__init__(prog, **{"max_help_position": 28, **given})


def parser_class(redactor: Callable[[str], str] = redact) -> type[argparse.ArgumentParser]:
    """Return a class of parsers whose errors are cleaned by `redactor`; their subcommands' parsers are of it, too."""

    class Parser(argparse.ArgumentParser):
        def __init__(self, **given: Any) -> None:
            super().__init__(**{"formatter_class": Page, "allow_abbrev": False, **given})

        def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
            found, rest = self.parse_known_args(args, namespace)
            if rest:
                self.error(unknown(rest))
            return found

        def error(self, message: str) -> NoReturn:
            said = "".join(char if char.isprintable() else "?" for char in redactor(message))
            said = said if len(said) <= MAX_MESSAGE else said[:MAX_MESSAGE] + "…"
            self.exit(2, f"{self.prog}: {said}\n{self.prog} --help says what it takes\n")

    return Parser


def unknown(rest: Sequence[str]) -> str:
    """Return what to say of arguments that aren't known: names of options alone, since their values may be secrets.
    Without an option among them words are repeated."""
    options = [each.partition("=")[0] for each in rest if each.startswith("-") and each not in ("-", "--")]
    if options:
        return f"no option {', '.join(dict.fromkeys(options))} here"
    return f"more than it takes: {' '.join(rest)}"
