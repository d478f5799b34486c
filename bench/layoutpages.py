"""Pages whose text and its order are known, drawn from a seed: `python -m bench.layoutpages FOLDER` writes them out.

A page is a list of units in reading order, lines of prose or cells of a table, each with its place; turning a page
turns the places. Fonts are Noto Serif (OFL) and IPAex Gothic (IPA Font License), from PyPI.
"""

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import cos, radians, sin
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from bench import foreign

Point = tuple[float, float]
VARIANTS: Final = 4
"""Pages of each kind."""
FONTS: Final = ("fontpkg-noto-serif==2.15", "matplotlib-fontja==1.1.0")
WORDS: Final = (
    *(
        "harbour",
        "ferry",
        "morning",
        "quiet",
        "river",
        "mill",
        "owner",
        "years",
        "letter",
        "bridge",
        "carries",
        "arrived",
    ),
    *(
        "closed",
        "remembered",
        "garden",
        "window",
        "slowly",
        "between",
        "evening",
        "market",
        "village",
        "station",
        "road",
    ),
    *(
        "winter",
        "summer",
        "answer",
        "paper",
        "number",
        "street",
        "early",
        "water",
        "light",
        "people",
        "because",
        "behind",
    ),
    *(
        "toward",
        "another",
        "without",
        "nothing",
        "almost",
        "always",
        "never",
        "across",
        "under",
        "first",
        "only",
        "when",
    ),
)
NAMES: Final = (
    *(
        "Anchor",
        "Basket",
        "Candle",
        "Drawer",
        "Engine",
        "Feather",
        "Garden",
        "Hammer",
        "Island",
        "Jacket",
        "Kettle",
    ),
    *("Lantern", "Mirror"),
)
TOWNS: Final = ("Kiel", "Bremen", "Aarhus", "Gdansk", "Tallinn", "Bergen", "Oulu", "Riga", "Visby", "Turku")
JAPANESE: Final = (
    "吾輩は猫である名前はまだ無いどこで生れたかとんと見当がつかぬ何でも薄暗いじめじめした所で泣いていた事だけは記憶している"
    "吾輩はここで始めて人間というものを見たしかもあとで聞くとそれは書生という人間中で一番獰悪な種族であったそうだ"
    "この書生というのは時々我々を捕えて煮て食うという話であるしかしその当時は何という考もなかったから別段恐しいとも思わなかった"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """Text that is read in one go, with the corners of its place, clockwise from the text's top left."""

    text: str
    place: tuple[Point, Point, Point, Point]


@dataclass(frozen=True)
class Page:
    kind: str
    name: str
    image: Image.Image
    units: tuple[Unit, ...]
    """In reading order."""


@dataclass
class Sheet:
    """A page while it is drawn."""

    width: int
    height: int
    ground: str = "white"
    ink: str = "black"
    units: list[Unit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height), self.ground)
        self._pen = ImageDraw.Draw(self.image)

    def text(
        self, text: str, x: float, y: float, size: int, *, right: bool = False, japanese: bool = False
    ) -> None:
        """Write a line with its top left at a place, or its top right."""
        font = fonts(size, japanese=japanese)
        x = x - font.getlength(text) if right else x
        self._pen.text((x, y), text, self.ink, font)
        end, base = x + font.getlength(text), y + font.getmetrics()[0]
        left, top, bottom = x, base - 0.95 * size, base + 0.35 * size
        self.units.append(Unit(text, ((left, top), (end, top), (end, bottom), (left, bottom))))

    def down(self, text: str, x: float, y: float, size: int) -> None:
        """Write a line of Japanese that runs down, in upright characters; x is its left side."""
        font = fonts(size, japanese=True)
        step = size * 1.15
        for at, character in enumerate(text):
            self._pen.text((x, y + at * step), character, self.ink, font)
        end = y + len(text) * step
        self.units.append(Unit(text, ((x + size, y), (x + size, end), (x, end), (x, y))))

    def page(self, kind: str, name: str) -> Page:
        return Page(kind, name, self.image, tuple(self.units))


def fonts(size: int, *, japanese: bool = False) -> ImageFont.FreeTypeFont:
    folder = foreign.packages("fonts", FONTS)
    file = (
        "matplotlib_fontja/fonts/ipaexg.ttf"
        if japanese
        else "fontpkg_noto_serif/files/NotoSerif[wdth,wght].ttf"
    )
    return ImageFont.truetype(folder / file, size)


def turned(page: Page, kind: str, name: str, degrees: float) -> Page:
    """Return a page turned clockwise."""
    image = page.image.rotate(
        -degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=page.image.getpixel((0, 0))
    )
    turn, (width, height) = radians(degrees), page.image.size

    def place(point: Point) -> Point:
        x, y = point[0] - width / 2, point[1] - height / 2
        return (
            x * cos(turn) - y * sin(turn) + image.width / 2,
            x * sin(turn) + y * cos(turn) + image.height / 2,
        )

    units = tuple(Unit(unit.text, tuple(map(place, unit.place))) for unit in page.units)  # type: ignore[arg-type]
    return Page(kind, name, image, units)


# Text


def sentences(chance: random.Random, letters: int) -> str:
    """Return about as many letters of prose."""
    text = ""
    while len(text) < letters:
        words = [chance.choice(WORDS) for _ in range(chance.randint(6, 14))]
        text += f"{' '.join(words).capitalize()}. "
    return text.strip()


def wrapped(text: str, width: float, size: int) -> list[str]:
    """Return the lines of a text that is set to a width in pixels."""
    font, lines = fonts(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def prose(
    sheet: Sheet, chance: random.Random, area: tuple[float, float, float, float], size: int = 24
) -> float:
    """Fill an area with paragraphs and return where they end."""
    left, top, right, bottom = area
    pitch, y = size * 1.45, top
    while y + 3 * pitch < bottom:
        for line in wrapped(sentences(chance, chance.randint(150, 400)), right - left, size):
            if y + pitch > bottom:
                return y
            sheet.text(line, left, y, size)
            y += pitch
        y += pitch * 0.8
    return y


def grid(
    sheet: Sheet,
    rows: Sequence[Sequence[str]],
    lefts: Sequence[float],
    top: float,
    *,
    pitch: float = 52,
    size: int = 24,
) -> float:
    """Write a table; numbers end at the right of their column."""
    for row in rows:
        for at, text in enumerate(row):
            number = at > 0 and any(character.isdigit() for character in text)
            edge = lefts[at] + 130 if number else lefts[at]
            if text:
                sheet.text(text, edge, top, size, right=number)
        top += pitch
    return top


def amount(chance: random.Random) -> str:
    return f"{chance.uniform(1, 900):.2f}"


# Kinds


def one_column(chance: random.Random) -> Sheet:
    sheet, y = Sheet(1240, 1754), 120.0
    for _ in range(3):
        sheet.text(" ".join(chance.sample(NAMES, 3)), 120, y, 44)
        y = prose(sheet, chance, (120, y + 80, 1120, y + 400)) + 50
    return sheet


def two_columns(chance: random.Random) -> Sheet:
    sheet, gutter = Sheet(1240, 1200), chance.randint(30, 110)
    for left in (90, 620 + gutter / 2):
        prose(sheet, chance, (left, 100, left + 530 - gutter / 2, 1100))
    return sheet


def columns_apart(chance: random.Random) -> Sheet:
    """Columns whose lines don't lie side by side, two or three."""
    count = chance.choice((2, 3))
    sheet, width = Sheet(1500, 1100), 1360 / count
    for at in range(count):
        left = 70 + at * width
        prose(
            sheet, chance, (left, 80 + chance.randint(0, 40), left + width - 60, 1000), chance.randint(22, 25)
        )
    return sheet


def newspaper(chance: random.Random) -> Sheet:
    sheet = Sheet(1400, 1900)
    sheet.text("The Harbour Gazette", 80, 40, 22)
    sheet.text(f"No. {chance.randint(10, 999)}", 1320, 40, 22, right=True)
    sheet.text(" ".join(chance.sample(NAMES, 4)), 200, 130, 62)
    for left in (80, 520, 960):
        prose(sheet, chance, (left, 260, left + 390, 1000))
    sheet.text(" ".join(chance.sample(NAMES, 5)), 240, 1080, 46)
    for left in (80, 740):
        prose(sheet, chance, (left, 1190, left + 580, 1740))
    sheet.text(f"{chance.randint(2, 40)}", 690, 1840, 22)
    return sheet


def sidebar(chance: random.Random) -> Sheet:
    """A narrow column beside a wide one."""
    sheet = Sheet(1240, 1400)
    parts = [(80.0, 330.0), (400.0, 1160.0)] if chance.random() < 0.5 else [(80.0, 800.0), (880.0, 1160.0)]
    for left, right in parts:
        prose(sheet, chance, (left, 100, right, 1250), 22)
    return sheet


def table(chance: random.Random) -> Sheet:
    """A table with empty cells between two paragraphs."""
    sheet = Sheet(1240, 1300)
    y = prose(sheet, chance, (100, 80, 1140, 260)) + 60
    rows = [["Item", "Town", "Units", "Amount"]]
    for name in chance.sample(NAMES, 9):
        row = [name, chance.choice(TOWNS), str(chance.randint(1, 90)), amount(chance)]
        rows.append([text if at == 0 or chance.random() > 0.2 else "" for at, text in enumerate(row)])
    y = grid(sheet, rows, (100, 420, 700, 950), y, pitch=chance.choice((40, 52, 70)))
    prose(sheet, chance, (100, y + 60, 1140, y + 260))
    return sheet


def table_with_heads(chance: random.Random) -> Sheet:
    """A title and heads over several columns, and a sum whose name is long."""
    sheet = Sheet(1300, 900)
    sheet.text(f"Sales of all towns in the year {chance.randint(1990, 2030)}", 80, 60, 26)
    sheet.text("First half", 470, 130, 24)
    sheet.text("Second half", 850, 130, 24)
    rows = [["Town", "Spring", "Summer", "Autumn", "Winter"]]
    rows += [[town, *(amount(chance) for _ in range(4))] for town in chance.sample(TOWNS, 6)]
    y = grid(sheet, rows, (80, 400, 590, 780, 970), 190)
    sheet.text("Sum of all towns and both halves", 80, y + 10, 24)
    sheet.text(amount(chance), 1100, y + 10, 24, right=True)
    return sheet


def table_wrapped(chance: random.Random) -> Sheet:
    """Cells with several lines: read row by row, each cell to its end."""
    sheet, y = Sheet(1240, 1300), 100.0
    for at, text in enumerate(("Item", "Description", "Price")):
        sheet.text(text, (90, 360, 1000)[at], y, 24)
    y += 70
    for name in chance.sample(NAMES, 6):
        sheet.text(name, 90, y, 24)
        lines = wrapped(sentences(chance, chance.randint(20, 110)), 560, 24)
        for at, line in enumerate(lines):
            sheet.text(line, 360, y + at * 33, 24)
        sheet.text(amount(chance), 1100, y, 24, right=True)
        y += 33 * len(lines) + 36
    return sheet


def table_of_texts(chance: random.Random) -> Sheet:
    """A table whose cells are words or sentences, set close: only that lines don't go on tells it from columns."""
    sheet, pitch = Sheet(1500, 900), chance.choice((42, 52, 64))
    if chance.random() < 0.5:
        rows = [["Question", "Answer"]]
        rows += [[sentences(chance, 20)[:40].rsplit(" ", 1)[0] for _ in range(2)] for _ in range(9)]
        grid(sheet, rows, (80, 800), 80, pitch=pitch)
    else:
        rows = [["Company", "Contact", "Harbour of departure"]]
        rows += [
            [
                f"{chance.choice(NAMES)} Trading Company",
                " ".join(chance.sample(NAMES, 2)),
                f"Harbour of {town}",
            ]
            for town in TOWNS
        ]
        grid(sheet, rows, (80, 600, 1050), 80, pitch=pitch)
    return sheet


def numbered(chance: random.Random) -> Sheet:
    """A list whose numbers stand apart from their texts, which go on below themselves."""
    sheet, y = Sheet(1240, 1000), 90.0
    for at in range(6):
        sheet.text(f"{at + 1}.", 90, y, 24)
        for line in wrapped(sentences(chance, chance.randint(40, 200)), 950, 24):
            sheet.text(line, 90 + 80, y, 24)
            y += 35
        y += 20
    return sheet


def invoice(chance: random.Random) -> Sheet:
    sheet = Sheet(1240, 1500)
    sheet.text("INVOICE", 90, 70, 56)
    for left in (90, 720):
        address = [
            f"{chance.choice(NAMES)} and {chance.choice(NAMES)} Company",
            f"{chance.randint(1, 99)} Mill Street",
        ]
        for at, text in enumerate([*address, f"{chance.randint(10000, 99999)} {chance.choice(TOWNS)}"]):
            sheet.text(text, left, 210 + at * 36, 24)
    rows = [["Item", "Units", "Price", "Amount"]]
    rows += [
        [name, str(chance.randint(1, 20)), amount(chance), amount(chance)]
        for name in chance.sample(NAMES, chance.randint(3, 8))
    ]
    rows += [["", "", "Net", amount(chance)], ["", "", "Total", amount(chance)]]
    y = grid(sheet, rows, (90, 520, 740, 980), 420)
    prose(sheet, chance, (90, y + 80, 1150, y + 260))
    return sheet


def form(chance: random.Random) -> Sheet:
    """Names of fields, and what was filled in; some weren't."""
    sheet, y = Sheet(1000, 1100), 90.0
    sheet.text("Registration", 80, y, 48)
    for name in ("Name", "Street", "Town", "Date of birth", "Telephone", "Profession", "Remarks"):
        y += 100
        sheet.text(f"{name}:", 80, y, 24)
        if chance.random() > 0.2:
            sheet.text(" ".join(chance.sample((*NAMES, *TOWNS), 2)), 420, y, 24)
    return sheet


def receipt(chance: random.Random) -> Sheet:
    """A strip of paper that is up to fifteen times as long as wide."""
    count = chance.choice((20, 60, 120, 170))
    sheet = Sheet(560, 200 + count * 44)
    sheet.text("Corner Shop", 160, 40, 40)
    for at in range(count):
        sheet.text(f"{chance.choice(NAMES)} {at}", 30, 130 + at * 44, 24)
        sheet.text(amount(chance), 520, 130 + at * 44, 24, right=True)
    return sheet


def japanese_down(chance: random.Random) -> Sheet:
    """Lines that run down, from the right; in one tier or two."""
    tiers = chance.choice((1, 2))
    sheet = Sheet(1100, 700 * tiers)
    for tier in range(tiers):
        for at in range(12):
            start = chance.randint(0, len(JAPANESE) - 18)
            length = 15 if at < 11 else chance.randint(4, 14)
            sheet.down(JAPANESE[start : start + length], 1000 - at * 74, 60 + tier * 690, 34)
    return sheet


def japanese_across(chance: random.Random) -> Sheet:
    sheet = Sheet(1240, 900)
    for left in (80, 660):
        for at in range(11):
            start = chance.randint(0, len(JAPANESE) - 18)
            sheet.text(JAPANESE[start : start + 16], left, 80 + at * 64, 31, japanese=True)
    return sheet


def sparse(chance: random.Random) -> Sheet:
    """One line or a few, far apart on a page of A4."""
    sheet = Sheet(1240, 1754)
    for at in sorted(chance.sample(range(16), chance.choice((1, 1, 2, 3)))):
        text = " ".join(chance.sample(WORDS, chance.randint(1, 4))).capitalize()
        sheet.text(text, chance.randint(60, 700), 60 + at * 100, chance.choice((20, 24, 36)))
    return sheet


def crop(chance: random.Random) -> Sheet:
    """A line that was cut out of a page, with hardly a margin."""
    size = chance.choice((12, 16, 24, 40))
    text = " ".join(chance.sample(WORDS, chance.randint(1, 8)))
    sheet = Sheet(round(fonts(size).getlength(text)) + 8, round(size * 1.5) + 4)
    sheet.text(text, 4, 0, size)
    return sheet


def poor(chance: random.Random) -> Sheet:
    """Two columns as a fax or a bad copy has them: a hundred dots an inch, grey, with noise."""
    sheet = Sheet(850, 800, ground="#d8d4cc", ink="#383838")
    for left in (50, 450):
        prose(sheet, chance, (left, 60, left + 350, 740), 16)
    noise = Image.effect_noise(sheet.image.size, 45).convert("RGB")
    sheet.image = Image.blend(sheet.image.filter(ImageFilter.GaussianBlur(0.7)), noise, 0.18)
    return sheet


def dark(chance: random.Random) -> Sheet:
    sheet = Sheet(1000, 700, ground="#202830", ink="#e8e8e0")
    prose(sheet, chance, (80, 80, 900, 620), 26)
    return sheet


KINDS: Final[dict[str, Callable[[random.Random], Sheet]]] = {
    "one column": one_column,
    "two columns": two_columns,
    "columns apart": columns_apart,
    "newspaper": newspaper,
    "sidebar": sidebar,
    "table, empty cells": table,
    "table, heads and sums": table_with_heads,
    "table, wrapped cells": table_wrapped,
    "table, texts": table_of_texts,
    "numbered list": numbered,
    "invoice": invoice,
    "form": form,
    "receipt": receipt,
    "Japanese, down": japanese_down,
    "Japanese, two columns": japanese_across,
    "few lines": sparse,
    "line crop": crop,
    "white on dark": dark,
    "poor copy": poor,
}
TURNED: Final = (one_column, two_columns, newspaper, table, invoice)


def pages(seed: int = 1) -> Iterable[Page]:
    """Draw all pages, one after another."""
    for kind, draw in KINDS.items():
        for number in range(VARIANTS):
            yield draw(random.Random(f"{seed} {kind} {number}")).page(kind, f"{kind} {number}")
    for kind, choices in (("turned", (90, 180, 270, 90, 180, 270)), ("askew", (-40, -12, -3, 5, 20, 44))):
        for number, degrees in enumerate(choices):
            draw = TURNED[number % len(TURNED)]
            name = f"{kind} {degrees} {draw.__name__}"
            chance = random.Random(f"{seed} {name}")
            yield turned(draw(chance).page(kind, name), kind, name, degrees)


if __name__ == "__main__":
    to = Path(sys.argv[1])
    to.mkdir(parents=True, exist_ok=True)
    for page in pages():
        page.image.save(to / f"{page.name.replace(' ', '_').replace(',', '')}.png")
