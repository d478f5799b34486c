"""What the operator has of its own agrees with the tables of `ocr_wire`."""

import msgspec
import pytest

from ocr_operator.decide.status import conditions as verdicts
from ocr_operator.resources import spec
from ocr_wire import conditions, settings

PARTS: dict[str, type[msgspec.Struct]] = {
    "idle": spec.Idle,
    "batching": spec.Batching,
    "queue": spec.Queue,
    "routing": spec.Routing,
}


def test_conditions() -> None:
    assert list(verdicts.CONDITIONS) == [each.type for each in conditions.CONDITIONS]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_spec_has_the_live_settings_of_the_table(part: str) -> None:
    rows = {each.field: each for each in settings.LIVE if each.general and each.part == part}
    fields = {each.encode_name: each for each in msgspec.structs.fields(PARTS[part])}
    assert fields.keys() == rows.keys()
    for name, row in rows.items():
        assert fields[name].default == row.default
        bounds = msgspec.json.schema(fields[name].type)
        if row.admits is not None:
            assert (bounds["minimum"], bounds["maximum"]) == (row.admits.least, row.admits.most)
        if row.words:
            assert sorted(bounds["enum"]) == sorted(row.words)


def test_models_and_the_log_level_have_the_table_s_defaults() -> None:
    model = spec.Model(name="m", engine="rapidocr")
    assert (model.priority, model.preload) == (settings.default("priority"), settings.default("preload"))
    assert spec.Spec(models=(model,)).log_level == settings.default("logLevel")
