r"""Formulas in Markdown: `\(…\)` and `\[…\]` as DeepSeek-OCR writes them, `$…$` and `$$…$$` as others do.

What is in them isn't Markdown: an underscore is an index there. They are taken out of their brackets; between single
dollars they keep these, since a dollar may be money.
"""

from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

KIND: Final = "formula"
"""Of tokens."""
MAX_CHARACTERS: Final = 10_000
"""Of a formula; a longer one is text."""
MAX_BLANKS: Final = 100
"""Behind a formula, at the end of its line."""
_BRACKETS: Final = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}


def known_to(parser: MarkdownIt) -> MarkdownIt:
    """Let a parser know formulas."""
    parser.inline.ruler.before("escape", KIND, _inline)
    parser.block.ruler.before(
        "fence", KIND, _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    return parser


def _inline(state: StateInline, silent: bool) -> bool:
    text, start = state.src, state.pos
    opening = text[start : start + 2]
    if (closing := _BRACKETS.get(opening)) is not None:
        end = text.find(closing, start + 2, start + MAX_CHARACTERS)
        if end < 0 or not text[start + 2 : end].strip():
            return False
        written = text[start + 2 : end].strip()
        end += 2
    else:
        end = _after_dollars(text, start)
        if end < 0:
            return False
        written = text[start:end]
    if not silent:
        state.push(KIND, "", 0).content = written
    state.pos = end
    return True


def _after_dollars(text: str, start: int) -> int:
    """Return where a formula between dollars ends; -1 where none begins. As Pandoc has it: no space inside of them, no
    digit behind them."""
    if text[start] != "$" or not text[start + 1 : start + 2].strip():
        return -1
    end = text.find("$", start + 1, start + MAX_CHARACTERS)
    if end < 0 or not text[end - 1].strip() or text[end + 1 : end + 2].isdigit():
        return -1
    return end + 1


def _block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Take the lines of a formula that stands by itself: some of them look like lists or headings."""
    text, start = state.src, state.bMarks[first] + state.tShift[first]
    closing = _BRACKETS.get(text[start : start + 2])
    if closing is None or closing == "\\)":
        return False
    # Looked for before any line is: a text may open one in each line.
    end = text.find(closing, start + 2, start + MAX_CHARACTERS)
    written = text[start + 2 : end].strip()
    if end < 0 or not written or text[end + 2 : end + MAX_BLANKS].partition("\n")[0].strip():
        return False
    line = first
    while line < last and state.eMarks[line] < end:
        line += 1
    if line == last:
        return False
    if not silent:
        state.push(KIND, "", 0).content = written
        state.line = line + 1
    return True
