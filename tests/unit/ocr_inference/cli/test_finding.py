"""Which files are documents, and where their results go."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocr_inference.cli.read import finding, planning
from ocr_inference.cli.read.planning import STDIN, Collision, Found
from tests.support import pages

PICTURE = pages.blank()


def tree(folder: Path, *names: str, content: bytes = PICTURE) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def shown(folder: Path, *words: str) -> list[str]:
    return [os.path.relpath(each.path, folder) for each in finding.find(words).found]


def test_a_folder_is_read_with_all_in_it_by_content(tmp_path: Path) -> None:
    tree(tmp_path, "b.png", "2024/a.dat", "2024/deep/er/c.png")
    tree(tmp_path, "notes.txt", "2024/more.txt", "README", content=b"words")
    tree(tmp_path, "broken.pdf", content=b"")
    found = finding.find([str(tmp_path)])
    names = ["b.png", "broken.pdf", "2024/a.dat", "2024/deep/er/c.png"]
    assert [os.path.relpath(each.path, tmp_path) for each in found.found] == names
    assert found.skipped == {".txt": 2, "without suffix": 1}
    assert not found.problems


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", ".b.png", ".cache/c.png")
    assert shown(tmp_path, str(tmp_path)) == ["a.png"]
    assert shown(tmp_path, str(tmp_path / ".b.png")) == [".b.png"]


def test_loops_of_links_end_and_links_to_files_are_followed(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/self").symlink_to(".")
    (tmp_path / "in/up").symlink_to("..")
    (tmp_path / "in/b.png").symlink_to("../out/b.png")
    (tmp_path / "in/gone.png").symlink_to("nowhere")
    (tmp_path / "in/loop.png").symlink_to("loop.png")
    (tmp_path / "in/loop").symlink_to("loop")
    found = finding.find([str(tmp_path / "in")])
    assert [os.path.basename(each.path) for each in found.found] == ["a.png", "b.png", "gone.png", "loop.png"]
    assert found.skipped == {"links to folders": 2, "without suffix": 1}
    assert shown(tmp_path, str(tmp_path / "in/self")) == [
        "in/self/a.png",
        "in/self/b.png",
        "in/self/gone.png",
        "in/self/loop.png",
    ]


def test_pipes_in_a_folder_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pdf")
    found = finding.find([str(tmp_path)])
    assert (found.found, found.skipped) == ([], {"special files": 1})


def test_a_folder_that_cant_be_listed_is_a_problem_and_others_are_read(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "x/b.png")
    (tmp_path / "x").chmod(0)
    if os.access(tmp_path / "x", os.R_OK):
        pytest.skip("this user may list everything")
    found = finding.find([str(tmp_path)])
    assert len(found.found) == 1
    assert found.problems == [(f"{tmp_path}/x", "can't list it: Permission denied")]


def test_results_are_no_documents(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "a.png.pdf", "out/b.png")
    found = finding.find([str(tmp_path)], {f"{tmp_path}/a.png.pdf", f"{tmp_path}/out"})
    assert [each.path for each in found.found] == [f"{tmp_path}/a.png"]


def test_a_pattern_without_a_match_is_a_problem(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "x[1].png")
    pattern = str(tmp_path / "*.pdf")
    assert finding.find([pattern]).problems == [(pattern, "no file matches it")]
    assert shown(tmp_path, str(tmp_path / "x[1].png")) == ["x[1].png"], "a file of that name wins"


NAMES = ("a.png", "b.png", "one/a.png", "one/two/a.png", "one/two/c.png", "two/a.png")
PART = st.sampled_from(["**", "*", "*.png", "a.*", "on?", "two", "?.png", "[bc].png"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tree")
    tree(made, *NAMES)
    return made


@given(st.lists(PART, min_size=1, max_size=4))
def test_patterns_match_what_the_shell_matches(folder: Path, parts: list[str]) -> None:
    pattern = "/".join(parts)
    assume(planning.is_pattern(pattern))
    matching = glob.glob(pattern, root_dir=folder, recursive=True)
    there = {name for name in NAMES if any(name == each or name.startswith(f"{each}/") for each in matching)}
    assert set(shown(folder, str(folder / pattern))) == there


def found(path: str, root: str) -> Found:
    return Found(path, path, root)


def test_results_mirror_the_folders() -> None:
    documents = planning.documents([found("/s/2024/a.pdf", "/s"), found("/s/b.png", "/s")], ".md")
    assert [each.output for each in documents] == ["2024/a.pdf.md", "b.png.md"]


def test_several_folders_keep_their_names() -> None:
    documents = planning.documents([found("/s/x/a.pdf", "/s/x"), found("/s/y/z/a.pdf", "/s/y")], ".md")
    assert [each.output for each in documents] == ["x/a.pdf.md", "y/z/a.pdf.md"]


def test_a_document_that_is_named_twice_is_read_once() -> None:
    documents = planning.documents([found("/s/a.pdf", "/s"), found("/s/a.pdf", "/s")], None)
    assert [(each.path, each.output) for each in documents] == [("/s/a.pdf", None)]


def test_results_of_one_name_are_refused() -> None:
    with pytest.raises(Collision, match="standard input and /s/stdin"):
        planning.documents([Found(STDIN, "standard input", STDIN), found("/s/stdin", "/s")], ".md")


PATH = st.lists(st.sampled_from(["a", "b.pdf", "c d"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(st.tuples(PATH, st.integers(0, 3)), max_size=8))
def test_every_document_has_a_result_of_its_own_inside_of_the_folder(given_: list[tuple[str, int]]) -> None:
    all_found = []
    for path, depth in given_:
        parts = path.split("/")
        root = "/" + "/".join(parts[: min(depth, len(parts) - 1)])
        all_found.append(found("/" + path, root))
    documents = planning.documents(all_found, ".md")
    outputs = [each.output or "" for each in documents]
    assert len(set(outputs)) == len(outputs) == len({each.path for each in all_found})
    assert not any(each.startswith(("/", "..")) for each in outputs)


def test_what_was_skipped_is_counted_by_kind() -> None:
    assert planning.counted({".txt": 2, ".md": 5, ".a": 2}) == "5 .md, 2 .a, 2 .txt"
    many = {f".{index}": 1 for index in range(9)}
    assert planning.counted(many).endswith(", 3 more")
