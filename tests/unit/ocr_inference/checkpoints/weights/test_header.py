"""Headers and indexes as strangers write them: believed when they add up, refused with file and field when not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from ocr_inference.checkpoints.weights import header
from ocr_inference.checkpoints.weights.header import BadWeights, Header
from ocr_inference.checkpoints.weights.layout import Entry

FILE = "model.safetensors"


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def parse(items: Any, data_bytes: int = 8) -> Header:
    text = items if isinstance(items, bytes) else json.dumps(items).encode()
    return header.parse(text, 8 + len(text) + data_bytes, FILE)


def test_tensors_are_found_in_the_order_of_their_bytes() -> None:
    items = {
        "__metadata__": {"format": "pt"},
        "b": tensor("BF16", (2, 3), (8, 20)),
        "a": tensor(),
        "none": tensor("U8", (0, 5), (20, 20)),
        "number": tensor("I8", (), (20, 21)),
    }
    found = parse(items, 21)
    assert list(found.tensors) == ["a", "b", "none", "number"]
    assert found.metadata == {"format": "pt"}
    first = found.tensors["a"]
    assert (first.begin, first.end) == (found.data_begin, found.data_begin + 8)
    assert found.tensors["b"].shape == (2, 3)


def refused(items: Any, field: str, words: str, data_bytes: int = 8) -> None:
    with pytest.raises(BadWeights, match=words) as caught:
        parse(items, data_bytes)
    assert caught.value.file == FILE
    assert caught.value.field == field
    assert str(caught.value).startswith(FILE)


@pytest.mark.parametrize(
    ("item", "field", "words"),
    [
        (tensor("F33"), "a.dtype", "'F33' is not one of"),
        (tensor("F4"), "a.dtype", "'F4' is not one of"),
        (tensor(["F32"]), "a.dtype", "is not one of"),  # type: ignore[arg-type]
        (tensor(shape=(3,)), "a.data_offsets", "span 8 bytes, F32 of shape .3. has 12"),
        (tensor(shape=(-2,)), "a.shape", "is no shape"),
        (tensor(shape=(2.0,)), "a.shape", "is no shape"),
        (tensor(shape=(True, 2)), "a.shape", "is no shape"),
        (tensor(shape=(1 << 63, 1 << 63)), "a.shape", "is no shape"),
        (tensor(shape=(1 << 62, 1 << 62)), "a.data_offsets", "span 8 bytes"),
        (tensor(shape=(1,) * 17), "a.shape", "is no shape"),
        (tensor() | {"shape": 2}, "a.shape", "2 is no shape"),
        (tensor(offsets=(8, 0)), "a.data_offsets", "is no range"),
        (tensor(offsets=(0,)), "a.data_offsets", "is no range"),
        (tensor(offsets=(0, 8, 16)), "a.data_offsets", "is no range"),
        (tensor(offsets=(-8, 0)), "a.data_offsets", "is no range"),
        (tensor(offsets=("0", "8")), "a.data_offsets", "is no range"),
        (tensor(offsets=(4, 12)), "a.data_offsets", "leave a gap"),
        (tensor() | {"strides": [1]}, "a", "is not described by"),
        ({"dtype": "F32"}, "a", "is not described by"),
        ([], "a", "is not described by"),
        (None, "a", "is not described by"),
    ],
)
def test_a_tensor_that_does_not_add_up_is_refused(item: Any, field: str, words: str) -> None:
    refused({"a": item}, field, words)


def test_overlapping_tensors_are_refused() -> None:
    refused({"a": tensor(), "b": tensor(offsets=(4, 12))}, "b.data_offsets", "overlap", 12)
    refused({"a": tensor(), "b": tensor()}, "b.data_offsets", "overlap")


def test_data_must_be_all_there_and_all_described() -> None:
    refused({"a": tensor()}, "data_offsets", "is cut off", 7)
    refused({"a": tensor()}, "data_offsets", "belong to no tensor", 9)
    refused({}, "data_offsets", "belong to no tensor", 1)


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        (b"", "header", "is not JSON"),
        (b"\xff\xfe{}", "header", "is not JSON"),
        ('{"a":1}'.encode("utf-16"), "header", "is not JSON"),
        (b"[]", "header", "is not a JSON object"),
        (b"[" * 200_000, "header", "is not JSON"),
        (b'{"a":' * 200_000, "header", "is not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "header", "is not JSON"),
        (b'{"a":{},"a":{}}', "header.a", "comes twice"),
        (b'{"a":{"dtype":"F32","dtype":"F32"}}', "header.dtype", "comes twice"),
        (b'{"__metadata__":[]}', "__metadata__", "is not an object of texts"),
        (b'{"__metadata__":{"a":1}}', "__metadata__.a", "is not a text"),
        (b'{"":{}}', "header", "is no name"),
        (b'{"a\\u0000b":{}}', "header", "is no name"),
        (b'{"\\ud800":{}}', "header", "is no name"),
        (b'{"' + b"a" * 513 + b'":{}}', "header", "is no name"),
    ],
)
def test_text_that_is_no_header_is_refused(text: bytes, field: str, words: str) -> None:
    refused(text, field, words)


def test_messages_carry_little_of_what_strangers_write() -> None:
    with pytest.raises(BadWeights) as caught:
        parse({"a" * 500: tensor("x" * 10_000)})
    assert len(str(caught.value)) < 500


def test_too_many_tensors_are_refused() -> None:
    items = ",".join(f'"{number}":0' for number in range(header.MAX_TENSORS + 1))
    refused(f"{{{items}}}".encode(), "header", "200001 tensors are more than 200000")


def test_length_of_a_header_is_checked_against_the_file() -> None:
    assert header.length((16).to_bytes(8, "little"), 24, FILE) == 16
    for size, file_bytes, words in (
        (17, 24, "reach past the file's end"),
        (1 << 63, 1 << 40, "are more than"),
        (header.MAX_HEADER_BYTES + 1, 1 << 40, "are more than"),
    ):
        with pytest.raises(BadWeights, match=words) as caught:
            header.length(size.to_bytes(8, "little"), file_bytes, FILE)
        assert caught.value.field == "header length"
    with pytest.raises(BadWeights, match="has 3 bytes, which is no safetensors file"):
        header.length(b"abc", 3, FILE)


# --- the index ------------------------------------------------------------------------------------------------


def test_index_maps_tensors_to_files_of_the_folder() -> None:
    text = b'{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors"}}'
    assert header.parse_index(text, "index") == {"a": "model-00001-of-00002.safetensors"}


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/passwd",
        "/tmp/model.safetensors",
        "sub/model.safetensors",
        "..safetensors",
        ".hidden.safetensors",
        "model.safetensors\n",
        "model.bin",
        "pytorch_model.bin",
        "model\\..\\x.safetensors",
        "",
        "m" * 600 + ".safetensors",
    ],
)
def test_index_that_leads_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(BadWeights, match="no safetensors file of this folder") as caught:
        header.parse_index(json.dumps({"weight_map": {"a": name}}).encode(), "index")
    assert (caught.value.file, caught.value.field) == ("index", "weight_map.a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{}", "is not an object of texts"),
        (b'{"weight_map":{}}', "is empty"),
        (b'{"weight_map":{"a":1}}', "is not a text"),
        (b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', "comes twice"),
        (b" " * (header.MAX_INDEX_BYTES + 1), "is larger than"),
        (b"nonsense", "is not JSON"),
    ],
)
def test_text_that_is_no_index_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        header.parse_index(text, "index")


# --- against the model ----------------------------------------------------------------------------------------


def found(**shapes: tuple[int, ...]) -> dict[str, tuple[str, header.TensorInfo]]:
    return {name: (FILE, header.TensorInfo(name, "F32", shape, 0, 0)) for name, shape in shapes.items()}


def test_what_a_model_wants_is_checked_by_name_and_shape() -> None:
    wanted = [
        Entry("a", "F32", (2,)),
        Entry("b", "BF16", (3,)),
        Entry("table", "F32", (4,), persistent=False),
    ]
    header.check(wanted, found(a=(2,), b=(3,)), "index")
    header.check(wanted, found(a=(2,), b=(3,), table=(4,), old=(1,)), "index", ignored=[r"^old$"])
    for tensors, field, words in (
        (found(a=(2,)), "b", "missing"),
        (found(), "a", r"missing \(and 1 more\)"),
        (found(a=(2,), b=(3, 1)), "b.shape", r"\[3, 1\], the model has \[3\]"),
        (found(a=(2,), b=(3,), table=(5,)), "table.shape", "the model has"),
        (found(a=(2,), b=(3,), c=(1,), d=(1,)), "c", r"no such tensor \(and 1 more\)"),
    ):
        with pytest.raises(BadWeights, match=words) as caught:
            header.check(wanted, tensors, "index")
        assert caught.value.field == field


# --- anything -------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
nearly_tensors = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "U8", "F4", ""]) | json_values,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | json_values,
    }
)
nearly_headers = st.dictionaries(
    st.sampled_from("abc") | st.just("__metadata__"), nearly_tensors | json_values
)


@given(
    nearly_headers.map(lambda items: json.dumps(items).encode()) | st.binary(max_size=64), st.integers(0, 80)
)
def test_whatever_is_believed_covers_the_file_exactly(text: bytes, data_bytes: int) -> None:
    try:
        found = parse(text, data_bytes)
    except BadWeights:
        return
    at = found.data_begin
    for info in found.tensors.values():
        assert info.begin == at
        at = info.end
    assert at == 8 + len(text) + data_bytes
    # The library that everybody uses believes no less.
    try:
        deserialize(  # type: ignore[no-untyped-call]
            len(text).to_bytes(8, "little") + text + bytes(data_bytes)
        )
    except SafetensorError as error:
        raise AssertionError(f"believed {text!r}, which safetensors refuses: {error}") from error


@given(
    st.dictionaries(st.text(max_size=8), json_values, max_size=4).map(
        lambda items: json.dumps(items).encode()
    )
)
def test_an_index_is_believed_or_refused(text: bytes) -> None:
    try:
        files = header.parse_index(text, "index")
    except BadWeights:
        return
    assert all(header.is_plain(name) for name in files.values())
