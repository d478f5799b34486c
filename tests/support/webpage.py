"""What a person does on the web page, for tests in a browser."""

import base64
from collections.abc import Sequence
from typing import TypedDict

from playwright.sync_api import Locator, Page, expect

from tests.support import pages


class File(TypedDict):
    """File as Playwright hands it to a page."""

    name: str
    mimeType: str
    buffer: bytes


def picture(name: str = "page.png", content: bytes | None = None) -> File:
    return {"name": name, "mimeType": "image/png", "buffer": pages.blank() if content is None else content}


def pdf(name: str = "contract.pdf", count: int = 3) -> File:
    return {"name": name, "mimeType": "application/pdf", "buffer": pages.pdf(count)}


def choose(page: Page, *files: File) -> None:
    page.locator("[data-test=files]").set_input_files(list(files))


def entries(page: Page) -> Locator:
    """Pages of the list."""
    return page.locator(".pages > .page")


def names(page: Page) -> list[str]:
    """Their names, with the page of a document where it has several."""
    return [" ".join(text.split("\n")) for text in page.locator(".page .about").all_inner_texts()]


def use(page: Page, model: str) -> None:
    page.get_by_role("form", name="What to read pages for").get_by_label("Model").select_option(model)


def read(page: Page) -> None:
    page.locator("button.read").click()


def expect_states(page: Page, states: Sequence[str]) -> None:
    """Wait for what the list says of its pages."""
    expect(page.locator(".page .page-state")).to_have_text(list(states))


def drop(page: Page, files: Sequence[File]) -> None:
    """Drop files anywhere on the page, as a file manager does."""
    _awaits_files(page)
    page.evaluate(
        """files => {
            const data = new DataTransfer();
            for (const {name, type, bytes} of files)
                data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, {type}));
            for (const type of ["dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        [_sent(each) for each in files],
    )


def paste(page: Page, file: File, into: str = "body", text: str = "") -> None:
    """Paste a picture, as from a screenshot, with this text beside it where a program has put one."""
    _awaits_files(page)
    page.locator(into).wait_for()
    page.evaluate(
        """({name, type, bytes, into, text}) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, {type}));
            if (text) data.items.add(text, "text/plain");
            const told = {clipboardData: data, bubbles: true, cancelable: true};
            document.querySelector(into).dispatchEvent(new ClipboardEvent("paste", told));
        }""",
        {**_sent(file), "into": into, "text": text},
    )


def _sent(file: File) -> dict[str, str]:
    """Return what a script of the page makes the file of."""
    return {
        "name": file["name"],
        "type": file["mimeType"],
        "bytes": base64.b64encode(file["buffer"]).decode(),
    }


def _awaits_files(page: Page) -> None:
    """Wait until the page runs: nothing listens while its modules are loaded."""
    expect(page.locator(".connection.up")).to_be_visible()
