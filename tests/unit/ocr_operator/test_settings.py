import re
from dataclasses import fields

import pytest

from ocr_operator.settings import PREFIX, VERSION, InvalidSetting, Settings
from tests.support import paths

DOCS = paths.DOCS / "operator-settings.md"


def test_nothing_set_is_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_empty_is_unset() -> None:
    assert Settings.from_env({"OCR_OPERATOR_PORT": ""}) == Settings()


def test_values_are_read_by_their_type() -> None:
    settings = Settings.from_env(
        {
            "OCR_OPERATOR_WATCH_NAMESPACES": "a, b,",
            "OCR_OPERATOR_EXPORTER_SELECTORS": "app in (x,y);kind=z",
            "OCR_OPERATOR_SCRAPE_SECONDS": "0.5",
            "OCR_OPERATOR_CONCURRENCY": "3",
            "OCR_OPERATOR_LOG_FORMAT": "json",
        }
    )

    assert settings.watch_namespaces == ("a", "b")
    assert settings.exporter_selectors == ("app in (x,y)", "kind=z")
    assert (settings.scrape_seconds, settings.concurrency, settings.log_format) == (0.5, 3, "json")


def test_the_address_of_a_process_node_is_taken_unless_told_otherwise() -> None:
    assert Settings.from_env({"OCR_HOST": "127.0.1.2"}).host == "127.0.1.2"
    assert Settings.from_env({"OCR_HOST": "127.0.1.2", "OCR_OPERATOR_HOST": "::"}).host == "::"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "no"),
        ("PORT", "70000"),
        ("CONCURRENCY", "0"),
        ("SCRAPE_SECONDS", "nan"),
        ("LOG_LEVEL", "loud"),
        ("PLACEMENT_POLICY", "random"),
        ("IMAGE_PULL_POLICY", "Sometimes"),
        ("TYPO", "1"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=PREFIX + name):
        Settings.from_env({PREFIX + name: value})


def test_every_setting_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")

    missing = [each.name for each in fields(Settings) if f"| `{PREFIX}{each.name.upper()}` |" not in text]

    assert not missing


def test_defaults_and_words_are_documented() -> None:
    told = {
        name.lower(): (default.strip("`"), what)
        for name, default, what in re.findall(
            rf"^\| `{PREFIX}(\w+)` \| (.*?) \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    for each in fields(Settings):
        default, what = told[each.name]
        value = each.default
        if isinstance(value, tuple):
            value = each.metadata["separator"].join(value)
        elif isinstance(value, float):
            value = f"{value:g}"
        assert default == (str(value).replace(VERSION, "<version>") or "empty"), each.name
        assert [word for word in each.metadata.get("one_of", ()) if word and f"`{word}`" not in what] == []


def test_every_documented_setting_exists() -> None:
    documented = re.findall(rf"^\| `{PREFIX}(\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)

    assert documented
    assert [name for name in documented if name.lower() not in {each.name for each in fields(Settings)}] == []
