import re
from dataclasses import fields

import pytest

from ocr_operator.settings import PREFIX, VERSION, InvalidSetting, Settings
from tests.support import marks, paths

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
        ("SCRAPE_SECONDS", "1_0"),
        ("PORT", "8_080"),
        ("PORT", "+8080"),
        ("CONCURRENCY", "٤"),
        ("LOG_LEVEL", "loud"),
        ("PLACEMENT_POLICY", "random"),
        ("UPGRADES_AT_ONCE", "-1"),
        ("LEAVE_TO_SCHEDULER_SECONDS", "-2"),
        ("LEAVE_TO_SCHEDULER_SECONDS", "never"),
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


@pytest.mark.parametrize(
    "url", ["ftp://eve:{0}@h", "eve:{0}@h", "http://eve:{0}/x@h", "http://[{0}", "http://h:{0}"]
)
def test_an_address_is_refused_without_its_password(url: str) -> None:
    secret = marks.mark()
    with pytest.raises(InvalidSetting, match="OCR_OPERATOR_PROMETHEUS_URL is no URL") as refused:
        Settings.from_env({"OCR_OPERATOR_PROMETHEUS_URL": url.format(secret)})
    assert not marks.leaks(str(refused.value), secret)


def test_settings_can_be_shown() -> None:
    secret = marks.mark()
    settings = Settings.from_env({"OCR_OPERATOR_PROMETHEUS_URL": f"http://eve:{secret}@prometheus:9090"})
    assert secret in settings.prometheus_url
    assert not marks.leaks(repr(settings), secret)


@pytest.mark.parametrize("matchers", ['cluster="eu"', 'cluster=~"eu|us",env!="a,b"', 'a="",b!~".*"'])
def test_matchers_of_prometheus_are_taken(matchers: str) -> None:
    assert Settings.from_env({"OCR_OPERATOR_PROMETHEUS_MATCHERS": matchers}).prometheus_matchers == matchers


@pytest.mark.parametrize(
    "matchers",
    [
        "eu",
        "cluster=eu",
        '{cluster="eu"}',
        'a="b"} or vector(1)',
        'a="\\"',
        'a="b",',
        'a="' + "b" * 2000 + '"',
    ],
)
def test_nothing_else_gets_into_a_query(matchers: str) -> None:
    with pytest.raises(InvalidSetting, match="PROMETHEUS_MATCHERS"):
        Settings.from_env({"OCR_OPERATOR_PROMETHEUS_MATCHERS": matchers})


def test_without_access_to_the_cluster_namespaces_are_named_and_their_pods_count() -> None:
    alone = {"OCR_OPERATOR_CLUSTER_ACCESS": "none"}
    with pytest.raises(InvalidSetting, match="needs OCR_OPERATOR_WATCH_NAMESPACES"):
        Settings.from_env(alone)
    assert not Settings.from_env({**alone, "OCR_OPERATOR_WATCH_NAMESPACES": "a"}).counts_all_pods
    assert Settings.from_env({}).counts_all_pods
