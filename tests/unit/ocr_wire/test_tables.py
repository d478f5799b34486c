"""The tables say the same as the definitions of the resources and the documentation."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from ocr_wire import conditions, engines, names, quantity, settings, states, tasks, text
from ocr_wire.settings import LIVE, LiveSetting

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"


def definition(plural: str) -> Any:
    return yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())


def spec_of(plural: str) -> Any:
    [version] = definition(plural)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


SPEC = spec_of(names.PLURAL)
POLICY = spec_of(names.POLICY_PLURAL)
MODEL = SPEC["models"]["items"]


def test_group_version_and_kinds() -> None:
    for plural, kind in ((names.PLURAL, names.KIND), (names.POLICY_PLURAL, names.POLICY_KIND)):
        found = definition(plural)
        assert found["metadata"]["name"] == f"{plural}.{names.GROUP}"
        assert (found["spec"]["group"], found["spec"]["names"]["kind"]) == (names.GROUP, kind)
        assert [each["name"] for each in found["spec"]["versions"]] == [names.VERSION]


# --- engines ---------------------------------------------------------------------------------------------------


def test_a_resource_may_name_the_public_engines() -> None:
    assert tuple(MODEL["properties"]["engine"]["enum"]) == engines.PUBLIC == get_args(engines.Engine)


def test_number_types_and_attentions_are_those_of_the_definition() -> None:
    for field, words, of in (
        ("dtype", engines.DTYPES, engines.Dtype),
        ("attention", engines.ATTENTIONS, engines.Attention),
    ):
        assert tuple(MODEL["properties"][field]["enum"]) == words == get_args(of)


def test_rules_of_engines_are_those_of_the_definition() -> None:
    stated = {rule["message"] for rule in MODEL["x-kubernetes-validations"]}
    found = {
        message
        for engine in engines.PUBLIC
        for has_source in (True, False)
        for _, message in engines.broken_rules(
            engine, has_source=has_source, dtype="float32", attention="eager"
        )
    }
    assert found == stated


@pytest.mark.parametrize(
    ("used", "image"),
    [
        (["rapidocr"], "cpu"),
        (["transformers"], "cuda"),
        (["rapidocr", "transformers"], "cuda"),
        (["vllm", "transformers"], "vllm"),
        ([], "cpu"),
        (["of-tomorrow"], "vllm"),
    ],
)
def test_the_smallest_image_that_has_all_engines_is_chosen(used: list[str], image: str) -> None:
    assert engines.image_of(used) == image


def test_an_engine_without_its_packages_names_the_image_that_has_them() -> None:
    said = engines.why_missing("transformers", ("torch", "tokenizers"))
    assert said.startswith("engine transformers lacks torch, tokenizers: use an image of target cuda of ")
    assert "spec.server.image" in said
    assert said.endswith("pip install 'ocr-operator[transformers]'")
    said = engines.why_missing("vllm", ("vllm",))
    assert said.startswith("engine vllm lacks vllm: use an image of target vllm of ")
    assert "without containers, set OCR_VLLM_PYTHON to the Python of" in said


def test_what_an_engine_takes_breaks_no_rule() -> None:
    for info in engines.ENGINES:
        good = info.source != "refused"
        assert list(engines.broken_rules(info.name, has_source=good)) == []
    assert list(engines.broken_rules("of-tomorrow", has_source=True, dtype="int3")) == []


def test_every_public_engine_is_documented() -> None:
    everybody = [MODEL["properties"]["engine"]["description"], (ROOT / "README.md").read_text()]
    told = (DOCS / "server-settings.md").read_text()
    for info in engines.ENGINES:
        assert f"`{info.name}`" in told
        assert all(info.name in page for page in everybody) or not info.public


def test_every_option_of_a_public_engine_is_documented() -> None:
    told = (DOCS / "server-settings.md").read_text()
    for info in engines.ENGINES:
        for each in info.options:
            row = f"| `{info.name}` | `{each.name}` | {each.row} | {each.meaning} |"
            assert row in told or not info.public


@pytest.mark.parametrize(
    ("engine", "given", "says"),
    [
        ("rapidocr", {"threds": 1}, "engine rapidocr has no option 'threds'; did you mean 'threads'?"),
        ("rapidocr", {"threads": 2.0}, "option threads is a whole number from 0 to 256, not 2.0"),
        ("rapidocr", {"threads": True}, "option threads is a whole number from 0 to 256, not True"),
        ("rapidocr", {"threads": 257}, "option threads is a whole number from 0 to 256, not 257"),
        ("transformers", {"max_batch": 0}, "option max_batch is a whole number from 1 to 256, not 0"),
        ("transformers", {"pack_weights": 1}, "option pack_weights is true or false, not 1"),
        ("transformers", {"pack_weights": "no"}, "option pack_weights is true or false, not 'no'"),
        ("fake", {"load_seconds": "1"}, "option load_seconds is a number from -1 to 1099511627776, not '1'"),
        (
            "vllm",
            {"max_context": 1 << 21},
            "option max_context is a whole number from 0 to 1048576, not 2097152",
        ),
        ("vllm", {"kv_cache_gib": 0.1}, "option kv_cache_gib is a number from 0.25 to 1024, not 0.1"),
        ("fake", {"faults_file": 3}, "option faults_file is text, not 3"),
    ],
)
def test_a_bad_option_is_named_with_what_it_has_to_be(
    engine: str, given: dict[str, engines.OptionValue], says: str
) -> None:
    assert [message for _, message in engines.bad_options(engine, given)] == [says]


def test_defaults_are_options_in_order() -> None:
    for info in engines.ENGINES:
        assert list(engines.bad_options(info.name, engines.with_defaults(info.name, {}))) == []


def test_the_libraries_of_an_engine_are_an_extra_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {each.extra for each in engines.ENGINES} <= project["optional-dependencies"].keys()


# --- tasks -----------------------------------------------------------------------------------------------------


def test_every_task_has_one_row() -> None:
    assert [each.task for each in tasks.TASKS] == list(tasks.Task)


def test_every_task_is_documented() -> None:
    for page in ("http-api.md", "terminology.md"):
        told = (DOCS / page).read_text()
        assert all(f"`{word}`" in told for word in tasks.WORDS), page


def test_what_a_task_needs_is_a_field_of_a_request() -> None:
    told = (DOCS / "http-api.md").read_text()
    needed = {each.needs for each in tasks.TASKS} - {None}
    assert needed == {"find_term", "custom_prompt"}
    assert all(f"| `{field}` |" in told for field in needed)
    assert [each.task for each in tasks.TASKS if each.takes_prompt] == [tasks.Task.FREEFORM]


# --- live settings ---------------------------------------------------------------------------------------------


def schemas(row: LiveSetting) -> Iterator[Any]:
    """Everywhere that the definitions have a live setting."""
    for of, spec in ((SPEC, SPEC), (POLICY, POLICY)):
        if row.general:
            yield found(of, row.path)
        if row.per_model:
            yield found(spec["models"]["items"]["properties"], row.path)


def found(properties: Any, path: str) -> Any:
    first, _, rest = path.partition(".")
    return found(properties[first]["properties"], rest) if rest else properties[first]


rows = pytest.mark.parametrize("row", LIVE, ids=lambda row: row.path)


@rows
def test_bounds_are_those_of_the_definitions(row: LiveSetting) -> None:
    for schema in schemas(row):
        if row.admits is not None:
            assert schema["type"] == "integer"
            assert (schema["minimum"], schema["maximum"]) == (row.admits.least, row.admits.most)
        elif row.words:
            assert (schema["type"], tuple(schema["enum"])) == ("string", row.words)
        else:
            assert schema["type"] == "boolean"
        assert "default" not in schema, "policies tell what was left out"


@rows
def test_default_is_the_one_that_the_definition_describes(row: LiveSetting) -> None:
    place = SPEC if row.general else MODEL["properties"]
    word = str(row.default).lower() if isinstance(row.default, bool) else str(row.default)
    assert re.search(rf"Default:\s+{re.escape(word)}\.", found(place, row.path)["description"])


@rows
def test_a_server_takes_all_that_a_resource_may_say(row: LiveSetting) -> None:
    if row.admits is not None and row.bounds is not None:
        assert row.admits.least in row.bounds
        assert row.admits.most in row.bounds
        assert isinstance(row.default, int)
        assert row.default in row.admits
    if row.words:
        assert row.default in row.words


def live_paths(properties: Any) -> Iterator[str]:
    """Fields of a definition that are marked LIVE."""
    for name, schema in properties.items():
        if not schema.get("description", "").startswith("LIVE") and name != "models":
            continue
        if "properties" in schema:
            yield from (f"{name}.{path}" for path in live_paths(schema["properties"]))
        elif name != "models":
            yield name


def test_no_live_field_of_the_definition_is_without_a_row() -> None:
    assert sorted(live_paths(SPEC)) == sorted(settings.GENERAL)
    assert sorted(live_paths(MODEL["properties"])) == sorted(settings.PER_MODEL)


def test_words_as_types_are_those_of_the_rows() -> None:
    assert get_args(settings.LogLevel) == settings.BY_PATH["logLevel"].words
    assert get_args(settings.RoutingPolicy) == settings.BY_PATH["routing.policy"].words


def test_what_is_no_number_has_no_bounds() -> None:
    for bounds in (settings.admitted, settings.accepted):
        with pytest.raises(ValueError, match="no number"):
            bounds("preload")


def test_every_live_setting_of_pods_is_documented() -> None:
    told = (DOCS / "server-settings.md").read_text()
    for row in LIVE:
        if row.for_pods:
            assert f"`{row.field}`" in told, row.path


# --- the rest --------------------------------------------------------------------------------------------------


def test_quantities_and_names_have_the_pattern_of_the_definition() -> None:
    assert MODEL["properties"]["gpuMemory"]["pattern"] == quantity.PATTERN
    assert MODEL["properties"]["name"]["pattern"] == text.MODEL_PATTERN


def test_every_condition_is_documented() -> None:
    told = (DOCS / "status.md").read_text()
    for each in conditions.CONDITIONS:
        assert f"`{each.type}`" in told


def test_the_definition_tells_every_condition_in_the_order_of_the_table() -> None:
    [version] = definition(names.PLURAL)["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    told = re.findall(r"(?:^|\. )(\w+): ", status["conditions"]["description"])
    assert told == [each.type for each in conditions.CONDITIONS]


def test_every_state_is_documented() -> None:
    told = (DOCS / "lifecycle.md").read_text()
    assert all(state in told for state in states.STATES)


def test_a_pattern_of_the_whole_text_matches_nothing_else() -> None:
    """In Python `$` matches before a last newline, too."""
    for pattern in (quantity.PATTERN, text.MODEL_PATTERN):
        assert re.search(pattern, "1\n")
        assert not re.search(text.whole(pattern), "1\n")
        assert re.search(text.whole(pattern), "1")
    assert not re.search(text.PRINTABLE, "m\n")
