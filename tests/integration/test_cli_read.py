"""`ocr-inference read`, the real command: files, folders, pipes, terminals, signals."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.support import inference, pages, pdfs
from tests.support.engines import Faults, alive, eventually
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE


def fake(folder: Path, **options: float | str) -> str:
    file = folder / "config.yaml"
    file.write_text(json.dumps({"models": [{"name": "m", "engine": "fake", "options": options}]}))
    return str(file)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Folder with two documents, one that is damaged, and what is none."""
    folder = tmp_path / "scans"
    (folder / "2024").mkdir(parents=True)
    (folder / "a.png").write_bytes(pages.blank())
    (folder / "2024/a.pdf").write_bytes(pages.pdf(2))
    (folder / "2024/bad.pdf").write_bytes(b"%PDF-1.7\nnonsense")
    (folder / "notes.txt").write_text("words")
    (folder / "loop").symlink_to(".")
    return folder


async def ended(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    async with inference.process("read", *arguments, **environ) as process:
        out, error = await process.communicate()
    assert b"Traceback" not in error
    return process.returncode, out.decode(), error.decode()


def tree(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


async def test_a_folder_is_read_into_another_and_gone_on_with(tmp_path: Path, scans: Path) -> None:
    out = tmp_path / "out"
    command = (str(scans), "--output", str(out), "--config", fake(tmp_path))
    code, printed, said = await ended(*command)
    assert (code, printed) == (3, "")
    assert tree(out) == [".ocr-inference.jsonl", "2024/a.pdf.md", "a.png.md"]
    assert (out / "2024/a.pdf.md").read_text().count("fake document of page") == 2
    assert said.startswith("read 2 documents (3 pages) in ")
    assert said.endswith(
        ", 1 failed\nskipped 2 files that are no documents: 1 .txt, 1 links to folders\n"
        f"failed:\n  {scans}/2024/bad.pdf: the PDF is damaged: nothing in it can be read\n"
    )
    (scans / "2024/bad.pdf").unlink()
    (scans / "b.png").write_bytes(pages.blank(shade=1))
    (out / "a.png.md").write_text("edited")
    code, _, said = await ended(*command)
    assert code == 0
    assert said.startswith("read 1 document (1 page) in ")
    assert "2 done before (--force reads them again)" in said
    assert (out / "a.png.md").read_text() == "edited"
    (out / "c.png.md").write_text("of another program")
    (scans / "c.png").write_bytes(pages.blank(shade=2))
    code, _, said = await ended(*command, "--quiet")
    assert code == 3
    assert said == (
        f"ocr-inference: {scans}/c.png: {out}/c.png.md is there, and isn't its result: "
        "--force overwrites it, or choose another --output\n"
    )
    assert (out / "c.png.md").read_text() == "of another program"


async def test_documents_are_printed_in_order_each_under_its_name(tmp_path: Path, scans: Path) -> None:
    (scans / "2024/bad.pdf").unlink()
    code, printed, said = await ended(str(scans), "--format", "json", "--config", fake(tmp_path))
    assert code == 0
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [(each["document"], len(each["pages"])) for each in lines] == [
        (f"{scans}/a.png", 1),
        (f"{scans}/2024/a.pdf", 2),
    ]
    assert "read 2 documents (3 pages)" in said


DOCS = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
READS = re.findall(r"^\$ (ocr-inference read (?!.*(?:--server|jq)).*)$", DOCS, re.MULTILINE)


async def test_commands_of_the_documentation_run(tmp_path: Path, scans: Path) -> None:
    (scans / "2024/bad.pdf").unlink()
    for name in ("page.png", "invoice.png"):
        (tmp_path / name).write_bytes(pages.invoice())
    (tmp_path / "contract.pdf").write_bytes(pages.pdf(7))
    (tmp_path / "fax.tiff").write_bytes(pages.encoded(Image.new("L", (64, 48), 255), "TIFF"))
    program = tmp_path / "bin/ocr-inference"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ocr_inference "$@" --config {fake(tmp_path)}\n')
    program.chmod(0o755)

    async def run(line: str) -> tuple[str, int, bytes]:
        process = await asyncio.create_subprocess_shell(
            line,
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "OCR_DEVICE": "cpu"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await process.communicate()
        return line, process.returncode or 0, error

    assert len(READS) >= 5
    for line, code, error in await asyncio.gather(*map(run, READS)):
        assert code == 0, (line, error)
    assert tree(tmp_path / "text") == [".ocr-inference.jsonl", "2024/a.pdf.md", "a.png.md"]
    assert (tmp_path / "fax.pdf").read_bytes().startswith(b"%PDF-")


async def test_names_of_files_may_be_anything(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / os.fsdecode(b"\xff\n\x1b[2J--.png")).write_bytes(pages.blank())
    (folder / "-x.pdf").write_bytes(pages.pdf(1))
    command = (str(folder), "--config", fake(tmp_path))
    for format_ in ("markdown", "json", "text"):
        async with inference.process("read", *command, "--format", format_, "--verbose") as process:
            out, error = await process.communicate()
        assert process.returncode == 0, error
        assert out.count(b'"text": "fake' if format_ == "json" else b"fake document of page") >= 2
        assert b"Traceback" not in error
    out_folder = tmp_path / "out"
    for says in (b"read 2 documents (2 pages)", b"2 done before"):
        async with inference.process(
            "read", *command, "--output", str(out_folder), "--format", "pdf"
        ) as process:
            _, error = await process.communicate()
        assert process.returncode == 0, error
        assert says in error
    assert len(list(out_folder.glob("*.pdf"))) == 2


async def test_what_a_pipe_brings_is_read_by_its_content(tmp_path: Path) -> None:
    async with inference.process_with_input(pages.pdf(2), "read", "-", "--config", fake(tmp_path)) as process:
        out, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert out.count(b"fake document of page") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["."], 1, "ocr-inference: no document in . (only 1 .yaml)\n"),
        (["*.pdf"], 1, "ocr-inference: *.pdf: no file matches it\n"),
        (["a.png", "--output", "config.yaml"], 2, "ocr-inference: --output config.yaml: it isn't a folder\n"),
        (["a.png", "a.jpg", "--format", "docx"], 2, "docx of several documents needs --output DIR"),
        (["a.png", "--pages", "0"], 2, "--pages has '0'"),
        (["a.png", "--api-key-file", "x"], 2, "--api-key-file: it is of a server"),
        (["a.png", "--tokn", "s3cret-word"], 2, "no option --tokn here"),
    ],
)
async def test_what_cant_be_carried_out_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    fake(tmp_path)
    monkeypatch.chdir(tmp_path)
    ended_with, printed, said = await ended(*arguments)
    assert (ended_with, printed) == (code, "")
    assert says in said
    assert "s3cret-word" not in said


@pytest.mark.parametrize(
    ("closed", "arguments", "code"), [("<&-", "-", 1), (">&-", "{page}", 0), ("2>&-", "{page} none.png", 3)]
)
async def test_streams_that_are_closed_are_no_fault(
    tmp_path: Path, closed: str, arguments: str, code: int
) -> None:
    (tmp_path / "a.png").write_bytes(pages.blank())
    words = arguments.format(page=tmp_path / "a.png")
    command = f"{sys.executable} -m ocr_inference read {words} --config {fake(tmp_path)} {closed}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        env={**os.environ, "OCR_DEVICE": "cpu"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == code, error
    assert out.count(b"fake document") == (closed == "2>&-")
    assert b"Traceback" not in error


async def test_a_reader_that_has_enough_ends_it_silently(tmp_path: Path, scans: Path) -> None:
    command = f"{sys.executable} -m ocr_inference read {scans} --config {fake(tmp_path)} --quiet | head -c 1"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -o pipefail; {command}"),
        env={**os.environ, "OCR_DEVICE": "cpu"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert out == b"<"
    assert process.returncode == 141 or b"bad.pdf" in error, (
        "it may have been through before head had its byte"
    )
    assert b"Broken" not in error
    assert b"Traceback" not in error


async def test_a_terminal_shows_how_far_it_is_and_nothing_of_it_stays(tmp_path: Path, scans: Path) -> None:
    (scans / "2024/bad.pdf").unlink()
    said = await on_terminal(tmp_path, scans, TERM="xterm")
    assert re.search(r"━+─+  1/2", said)
    assert re.search(r"page [12] of 2", said)
    drawn, _, last = said.rpartition("\r\x1b[K")
    assert "\n" not in drawn
    assert last.startswith("read 2 documents (3 pages) in ")
    assert all(len(each) < 70 for each in drawn.split("\r\x1b[K")), "no wider than the terminal"
    assert "\x1b" not in await on_terminal(tmp_path, scans, TERM="dumb")


async def on_terminal(tmp_path: Path, scans: Path, **environ: str) -> str:
    """What stands on the terminal of 70 columns after a run."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    command = ('stty cols 70 <&2; exec "$@"', "sh", sys.executable, "-m", "ocr_inference", "read")
    config = fake(tmp_path, infer_seconds=0.15)
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", *command, str(scans), "--config", config, "--jobs", "1"),
        env={**os.environ, "OCR_DEVICE": "cpu", "PYTHONIOENCODING": "utf-8", **environ},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    said = bytearray()
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def more() -> None:
        try:
            said.extend(os.read(ours, 65_536))
        except OSError:  # the other end is closed
            loop.remove_reader(ours)
            closed.set()

    loop.add_reader(ours, more)
    async with asyncio.timeout(PATIENCE):
        await closed.wait()
        assert await process.wait() == 0
    os.close(ours)
    return said.decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_leaves_no_half_file_and_no_worker(
    tmp_path: Path, scans: Path, number: signal.Signals, code: int
) -> None:
    faults = Faults(tmp_path)
    faults.set(infer="hold")
    out, config = tmp_path / "out", fake(tmp_path, faults_file=str(faults.file))
    command = ("read", str(scans), "--output", str(out), "--config", config, "--verbose")
    async with inference.process(*command) as process:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            await process.stderr.readuntil(b"with m (fake on cpu)\n")
            await eventually(lambda: len(descendants(process.pid)) >= 2)
            workers = descendants(process.pid)
            process.send_signal(number)
            said = await process.stderr.read()
            assert await process.wait() == code
    assert b"read 0 documents (0 pages)" in said
    assert b"not begun" in said
    assert not out.exists() or tree(out) == []
    await eventually(lambda: not any(alive(pid) for pid in workers))


async def test_a_pipe_that_brings_nothing_can_be_given_up(tmp_path: Path) -> None:
    pipe = tmp_path / "a.pdf"
    os.mkfifo(pipe)
    writers: list[int] = []

    def is_opened() -> bool:
        with suppress(OSError):  # ENXIO while it isn't open for reading
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    async with inference.process("read", str(pipe), "--config", fake(tmp_path)) as process:
        await eventually(is_opened)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            _, error = await process.communicate()
    os.close(writers[0])
    assert process.returncode == 130
    assert b"1 not begun" in error


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children] + [more for each in children for more in descendants(int(each))]


async def test_read_prints_markdown_of_every_page_of_a_pdf(tmp_path: Path) -> None:
    document = tmp_path / "invoices.pdf"
    document.write_bytes(pages.pdf(2))
    async with inference.process("read", "--verbose", str(document)) as process:
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    first, second = out.decode().split("\n\n---\n\n")
    assert "Invoice number 4711" in first
    assert "| Coffee beans | 120.50 |" in first
    assert first.strip() == second.strip()
    assert "page 2 of 2" in error.decode()
    assert "WARNING" not in error.decode()


async def test_read_finds_a_term_and_prints_json(tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    picture.write_bytes(pages.invoice())
    command = ("read", str(picture), "--find", "total amount", "--format", "json")
    async with inference.process(*command) as process:
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    (page,) = json.loads(out)["pages"]
    assert page["text"] == "Total amount 134.75"
    (box,) = page["boxes"]
    left, top, right, bottom = box["box"]
    assert 40 < left < 80 < right < 400
    assert 430 < top < 470 < bottom < 500


@pytest.mark.parametrize(
    ("content", "arguments", "code", "says"),
    [
        (None, [], 1, "can't read it: No such file"),
        (b"nonsense", [], 1, "no picture of a known format"),
        (pages.truncated(), [], 1, "truncated"),
        (b"%PDF-1.7\nnonsense", [], 1, "the PDF is damaged"),
        (pages.blank(), ["--task", "describe"], 2, "it can do document, ocr, free, find"),
        (pages.blank(), ["--task", "find"], 2, "--find TERM"),
        (pages.blank(), ["--task", "ocr", "--find", "a"], 2, "--find is of --task find"),
        (pages.blank(), ["--model", "other"], 2, "there are m"),
    ],
    ids=["missing", "nonsense", "truncated", "broken pdf", "task", "no term", "term", "model"],
)
async def test_read_says_what_is_wrong(
    tmp_path: Path, content: bytes | None, arguments: list[str], code: int, says: str
) -> None:
    document = tmp_path / "page"
    if content is not None:
        document.write_bytes(content)
    async with inference.process("read", str(document), "--config", fake(tmp_path), *arguments) as process:
        out, error = await process.communicate()
    assert (process.returncode, out) == (code, b""), error.decode()
    assert says in error.decode()
    assert "Traceback" not in error.decode()


async def test_read_tells_a_page_that_cant_be_read_and_reads_the_others(tmp_path: Path) -> None:
    document = tmp_path / "d.pdf"
    document.write_bytes(pdfs.pdf([pdfs.PdfPage("One"), None, pdfs.PdfPage("Three")]))
    command = ("read", str(document), "--config", fake(tmp_path), "--dpi", "72")
    async with inference.process(*command, "--format", "json") as process:
        out, error = await process.communicate()
    assert process.returncode == 3
    read = json.loads(out)
    assert [(page["index"], page["image_dims"]) for page in read["pages"]] == [
        (index, {"w": 420, "h": 595}) for index in (0, 2)
    ]
    message = "page 2 can't be loaded: it is damaged"
    assert read["errors"] == [{"index": 1, "code": "invalid_page", "message": message}]
    assert error.decode() == f"ocr-inference: {document}: {message}\n"
    async with inference.process(*command, "--pages", "2-") as process:
        out, _ = await process.communicate()
    assert process.returncode == 3
    assert out.startswith(b"<!-- page 2 can't be loaded: it is damaged -->\n\n---\n\n")
