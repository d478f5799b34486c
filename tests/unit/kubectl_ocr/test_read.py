"""Documents of a command line, what becomes of them, and what is said meanwhile."""

import os
from pathlib import Path

import pytest

from kubectl_ocr import documents, pagetexts
from kubectl_ocr.commands.read import Outcome, verdict
from kubectl_ocr.documents import Document
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.pagetexts import Text
from kubectl_ocr.views import progress
from kubectl_ocr.views.progress import Reading


def test_a_folder_is_all_that_can_be_read_in_it_by_name(tmp_path: Path) -> None:
    for name in ("b.pdf", "a/2.PNG", "a/1.tif", "notes.txt", ".hidden.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.pdf")  # reading it would have no end
    found = documents.listed([str(tmp_path), "-", "page.dat"])
    assert [each.name for each in found] == ["b.pdf", "a/1.tif", "a/2.PNG", "stdin", "page.dat"]
    assert documents.targets(found, Path("out"), "text")[found[1]] == Path("out/a/1.tif.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may list everything")
def test_a_folder_that_cant_be_listed_is_a_document_that_cant_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    (tmp_path / "closed").mkdir(mode=0)
    first, closed = documents.listed([str(tmp_path)])
    assert first.name == "a.pdf"
    with pytest.raises(Failure, match=r"closed can't be read: Permission denied"):
        closed.read()
    with pytest.raises(Failure, match=r"closed can't be read: Permission denied"):
        documents.listed([str(tmp_path / "closed")])


def test_what_cannot_be_a_run_is_said_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"has no document \(\.bmp, "):
        documents.listed([str(tmp_path)])
    with pytest.raises(Failure, match="standard input can be read once"):
        documents.listed(["-", "-"])
    twice = documents.listed(["x/a.pdf", "y/a.pdf"])
    with pytest.raises(Failure, match=r"a\.pdf is there twice, and both would be written to out/a\.pdf\.md"):
        documents.targets(twice, Path("out"), "markdown")


@pytest.mark.parametrize(
    ("content", "many"),
    [
        (b"%PDF-1.7", True),
        (b"\xef\xbb\xbf\n%PDF-1.4", True),
        (b"II*\0....", True),
        (b"MM\0*....", True),
        (b"\x89PNG\r\n", False),
        (b"%PD", False),
    ],
)
def test_what_may_have_many_pages_is_known_by_its_first_bytes(content: bytes, many: bool) -> None:
    assert documents.has_pages(content) is many


def test_a_result_is_written_as_a_whole_and_not_twice(tmp_path: Path) -> None:
    source, target = tmp_path / "a.pdf", tmp_path / "deep" / "er" / "a.pdf.md"
    source.write_bytes(b"%PDF-")
    document = Document(source, Path("a.pdf"))
    assert not document.was_read(target)
    documents.write(target, b"text")
    assert (target.read_bytes(), os.listdir(target.parent)) == (b"text", ["a.pdf.md"])
    assert document.was_read(target)
    os.utime(source, (target.stat().st_mtime + 5,) * 2)
    assert not document.was_read(target), "it changed since"
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Failure, match="can't be written: ") as failed:
        documents.write(tmp_path / "file" / "a.md", b"")
    assert failed.value.status is Exit.USAGE


PAGES = [
    {"index": 0, "text": "# One", "error": None},
    {"index": 4, "error": {"message": "it hangs -->\x1b[2J"}},
    {"index": 5, "text": "Six", "error": None},
]


def test_pages_stand_in_their_order_with_the_reason_of_one_that_is_missing() -> None:
    found = pagetexts.of_pages(PAGES, 4)
    assert found.errors == ("page 5: it hangs --> [2J", "1 of 4 pages weren't read")
    told = found.printed("markdown", "")
    assert told == "# One\n\n---\n\n<!-- page 5: it hangs - -> [2J -->\n\n---\n\nSix"
    assert found.printed("text", "a.pdf").startswith("==> a.pdf <==\n# One\n\n")
    assert '"page_count": 4' in found.printed("json", "")
    assert found.printed("json", "a.pdf").startswith('{"document":"a.pdf",'), "a line for each of several"
    assert "\n" not in found.printed("json", "a.pdf")
    assert found.encoded("text", "a.pdf").endswith(b"\n\nSix\n")


def test_what_a_page_says_moves_no_cursor_but_is_written_as_it_is() -> None:
    found = pagetexts.of_pages([{"index": 0, "text": "a\x1b[2Jb\tc"}], 1)
    assert found.printed("markdown", "") == "a [2Jb\tc"
    assert found.encoded("markdown", "") == b"a\x1b[2Jb\tc\n"


READ, PARTLY = Outcome(Text({}, ("x",))), Outcome(Text({}, ("x",), ("page 2: no",)))
FAILED = Outcome(failure=Failure("busy", Exit.LATER))


@pytest.mark.parametrize(
    ("outcomes", "status", "said"),
    [
        ([READ], None, ""),
        ([READ, Outcome()], None, ""),
        ([FAILED], Exit.LATER, "busy"),
        ([PARTLY], Exit.PARTIAL, "not all pages are read: page 2: no"),
        ([FAILED, READ], Exit.PARTIAL, "1 of 2 documents couldn't be read"),
        ([FAILED, FAILED], Exit.LATER, "2 of 2 documents couldn't be read"),
        (
            [FAILED, PARTLY, READ],
            Exit.PARTIAL,
            "1 of 3 documents couldn't be read, of 1 not all pages are read",
        ),
    ],
)
def test_how_a_command_ends(outcomes: list[Outcome], status: Exit | None, said: str) -> None:
    failure = verdict(outcomes)
    assert (None if failure is None else failure.status, str(failure or "")) == (status, said)


def test_the_line_says_how_far_it_is_and_fits() -> None:
    readings = {
        "a.pdf": Reading(total=40, done=7, failed=1, rate=0.61, ends_at=1054.0),
        "b\x1b[2J.pdf": Reading(),
        "c.pdf": Reading(total=3, queued_ahead=2),
        "d.pdf": Reading(total=3),
    }
    told = progress.line(readings, 5, 12, 1000.0, 200)
    assert told == (
        "5 of 12 documents · a.pdf: 7 of 40 pages, 1 failed, 0.61 pages/s, 54s left · "
        "b [2J.pdf: sending · c.pdf: waits, 2 before it · 1 more"
    )
    for width in range(1, 200):
        assert len(progress.line(readings, 5, 12, 1000.0, width)) <= max(1, width - 1)
    assert progress.line({"a.pdf": Reading(total=1)}, 0, 1, 0, 80) == "a.pdf: 0 of 1 pages"
