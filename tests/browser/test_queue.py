"""Pages are read by jobs: progress, errors, cancelling, trying again, another task."""

import json
from collections.abc import Callable

from playwright.sync_api import BrowserContext, Dialog, Page, Route, expect

from tests.support import webpage
from tests.support.engines import Faults
from tests.support.patience import PATIENCE


def test_pages_are_read_and_the_list_says_so(page: Page) -> None:
    webpage.choose(page, webpage.picture(), webpage.pdf(count=2))
    webpage.use(page, "quick")
    expect(page.locator("button.read")).to_have_text("Read 3 pages")
    webpage.read(page)
    webpage.expect_states(page, ["Read"] * 3)
    expect(page.locator("button.read")).to_have_text("Read 3 pages again")
    expect(page.get_by_role("region", name="Being read")).to_have_count(0)


def test_a_document_is_sent_once_and_again_where_the_server_let_it_go(page: Page) -> None:
    sent: list[str] = []
    page.on(
        "request", lambda request: sent.append(request.url) if request.url.endswith("/v1/files") else None
    )
    webpage.choose(page, webpage.pdf(count=2))
    expect(page.locator(".page .thumb img")).to_have_count(2)
    webpage.use(page, "quick")
    webpage.read(page)
    webpage.expect_states(page, ["Read"] * 2)
    assert len(sent) == 1
    gone = {"error": {"message": "no such file", "code": "file_not_found", "param": "file_id"}}
    page.route("**/v1/jobs", refuse(1, status=404, body=json.dumps(gone)))
    webpage.read(page)
    webpage.expect_states(page, ["Read"] * 2)
    assert len(sent) == 2
    with page.expect_request(lambda request: request.method == "DELETE" and "/v1/files/" in request.url):
        page.get_by_role("checkbox", name="Select all").check()
        page.get_by_role("button", name="Delete").click()


def test_another_task_reads_the_same_pages_again(page: Page) -> None:
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    webpage.read(page)
    webpage.expect_states(page, ["Read"])
    page.get_by_text("Plain text", exact=True).click()
    expect(page.locator("button.read")).to_have_text("Read 1 page")
    webpage.read(page)
    webpage.expect_states(page, ["Read"])
    expect(page.get_by_role("region", name="Page", exact=True)).to_contain_text("fake free of page")


def test_find_asks_what_to_look_for(page: Page) -> None:
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    page.get_by_text("Where a word or phrase stands").click()
    webpage.read(page)
    expect(page.get_by_role("alert")).to_have_text("Say what to look for.")
    expect(page.get_by_label("Look for")).to_be_focused()
    page.keyboard.type("total")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Enter")
    webpage.expect_states(page, ["Read"])


def test_only_tasks_of_the_chosen_model_are_offered(context: BrowserContext, page: Page) -> None:
    tasks = page.locator(".task .name")
    expect(tasks).to_have_text(["Document", "Lines", "Plain text", "Find"])
    context.route("**/v1/models", _with_a_language_model)
    page.reload()
    webpage.use(page, "chat")
    expect(tasks).to_have_text(["Document", "Lines", "Plain text", "Find", "Chart", "Describe", "Ask"])
    page.get_by_text("Describe", exact=True).click()
    webpage.use(page, "quick")
    expect(page.get_by_role("radio", name="Document")).to_be_checked()


def _with_a_language_model(route: Route) -> None:
    body = route.fetch().json()
    every = ["document", "ocr", "free", "figure", "describe", "find", "freeform"]
    body["data"].append({**body["data"][0], "id": "chat", "tasks": every})
    route.fulfill(json=body)


def test_a_document_can_be_cancelled_and_read_on(page: Page, faults: Faults) -> None:
    faults.set(infer="hold")
    webpage.choose(page, webpage.pdf(count=2))
    expect(webpage.entries(page)).to_have_count(2)
    webpage.use(page, "faulty")
    webpage.read(page)
    expect(page.get_by_text("0 of 2 pages")).to_be_visible()
    page.get_by_role("button", name="Cancel contract.pdf").click()
    expect(page.get_by_text("Cancelled after 0 of 2 pages")).to_be_visible()
    webpage.expect_states(page, ["Cancelled"] * 2)
    faults.set()
    page.get_by_role("button", name="Try again: contract.pdf").click()
    webpage.expect_states(page, ["Read"] * 2)


def test_a_page_that_fails_says_why_in_the_persons_language_and_is_tried_again(
    page: Page, faults: Faults
) -> None:
    faults.set(infer="fail")
    webpage.choose(page, webpage.picture())
    webpage.use(page, "faulty")
    webpage.read(page)
    webpage.expect_states(page, ["The model failed on this page. Try again; the server’s log says why."])
    page.get_by_label("Language").select_option("zh-CN")
    webpage.expect_states(page, ["模型处理此页时出错。请重试，原因见服务器日志。"])
    page.get_by_label("语言").select_option("en")
    faults.set()
    page.get_by_role("button", name="Try again: page.png").click()
    webpage.expect_states(page, ["Read"])


def refuse(times: int, **answer: object) -> Callable[[Route], None]:
    """Answer jobs with this so often, then let them through."""
    left = iter(range(times))

    def handle(route: Route) -> None:
        if next(left, None) is None:
            route.continue_()
        else:
            route.fulfill(**answer)  # type: ignore[arg-type]

    return handle


def test_a_full_queue_is_waited_for(context: BrowserContext, page: Page) -> None:
    full = {
        "error": {"message": "queue full", "type": "rate_limit_error", "code": "jobs_full", "param": None}
    }
    answer = {"status": 429, "headers": {"Retry-After": "3"}, "body": json.dumps(full)}
    context.route("**/v1/jobs", refuse(1, **answer))
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    webpage.read(page)
    expect(page.get_by_text("The server is busy; tried again in")).to_be_visible()
    webpage.expect_states(page, ["Read"])


def test_a_refused_key_opens_its_field(context: BrowserContext, page: Page) -> None:
    missing = {
        "error": {
            "message": "needs a key",
            "type": "authentication_error",
            "code": "missing_token",
            "param": None,
        }
    }
    context.route("**/v1/jobs", refuse(1, status=401, body=json.dumps(missing)))
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    webpage.read(page)
    expect(page.get_by_label("API key of this server")).to_be_focused()
    page.keyboard.type("s3cret")
    with page.expect_request("**/v1/jobs") as sent:
        page.get_by_role("button", name="Try again: page.png").click()
    assert sent.value.headers["authorization"] == "Bearer s3cret"
    webpage.expect_states(page, ["Read"])
    # In memory only: nothing that outlives the page knows it.
    assert "s3cret" not in json.dumps(context.storage_state(indexed_db=True))


def test_a_job_is_asked_for_again_where_an_answer_is_lost(context: BrowserContext, page: Page) -> None:
    context.route("**/v1/jobs/*", refuse(1, status=502, body="bad gateway"))
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    webpage.read(page)
    webpage.expect_states(page, ["Read"])


def test_a_second_tab_works_while_both_read(context: BrowserContext, page: Page, faults: Faults) -> None:
    # A browser has six connections to a server, for all its tabs.
    faults.set(infer="hold")
    other = context.new_page()
    other.goto("/")
    for tab in (page, other):
        webpage.choose(tab, *(webpage.picture(f"{name}.png") for name in "abc"))
        webpage.use(tab, "faulty")
        webpage.read(tab)
        expect(tab.locator(".job:is(.running, .queued)")).to_have_count(3)
    faults.set()
    for tab in (page, other):
        webpage.expect_states(tab, ["Read"] * 3)


def test_what_is_deleted_while_it_waits_leaves_the_others_what_was_read_of_them(
    page: Page, faults: Faults
) -> None:
    faults.set(infer="hold")
    webpage.choose(page, *(webpage.picture(f"{name}.png") for name in "abc"), webpage.pdf(count=3))
    expect(webpage.entries(page)).to_have_count(6)
    webpage.use(page, "faulty")
    webpage.read(page)
    expect(page.get_by_text("Waits for the others")).to_be_visible()
    webpage.entries(page).nth(4).locator(".show").click()
    page.keyboard.press("Delete")
    expect(webpage.entries(page)).to_have_count(5)
    faults.set()
    webpage.expect_states(page, ["Read"] * 5)
    indices = page.evaluate(
        "import('/ui/store.js').then(({pages}) => pages.value.map(({readings: [{result}]}) => result.index))"
    )
    assert indices == [0, 0, 0, 0, 2]


def test_the_server_drops_what_was_read_also_of_a_job_that_the_page_forgot(page: Page) -> None:
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    webpage.read(page)
    webpage.expect_states(page, ["Read"])
    page.evaluate("import('/ui/store.js').then((store) => store.dropJob(store.jobs.value[0].id))")
    with page.expect_request(lambda request: request.method == "DELETE" and "/v1/jobs/" in request.url):
        page.get_by_role("button", name="Delete").click()


def test_leaving_with_something_that_nobody_took_away_is_asked_about(page: Page) -> None:
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    webpage.choose(page, webpage.picture())
    webpage.use(page, "quick")
    webpage.read(page)
    webpage.expect_states(page, ["Read"])
    page.evaluate("location.reload()")
    page.wait_for_function("true")
    webpage.expect_states(page, ["Read"])
    assert asked == ["beforeunload"]
    page.locator("summary", has_text="Export").click()
    with page.expect_download():
        page.get_by_role("button", name="Plain text").click()
    page.reload()
    expect(page.get_by_text("Drop pages here")).to_be_visible()
    assert asked == ["beforeunload"]


def test_a_document_is_counted_once_the_server_has_its_key(context: BrowserContext, page: Page) -> None:
    missing = {"error": {"message": "needs a key", "code": "missing_token", "param": None}}
    context.route("**/v1/files", refuse(1, status=401, body=json.dumps(missing)))
    webpage.choose(page, webpage.pdf(count=2))
    expect(webpage.entries(page)).to_contain_text("The server needs an API key")
    expect(page.get_by_label("API key of this server")).to_be_focused()
    page.keyboard.type("s3cret")
    page.keyboard.press("Enter")
    expect(webpage.entries(page)).to_have_count(2)
    expect(page.get_by_label("API key of this server")).to_be_hidden()


def test_what_a_closed_page_had_read_is_cancelled(page: Page, faults: Faults) -> None:
    faults.set(infer="hold")
    webpage.choose(page, webpage.picture())
    webpage.use(page, "faulty")
    with page.expect_response("**/v1/jobs") as sent:
        webpage.read(page)
    job = sent.value.json()["id"]
    expect(page.get_by_text("0 of 1 page")).to_be_visible()
    page.goto("about:blank")
    # The watch ends with the job.
    watched = page.context.request.get(f"/v1/jobs/{job}?watch=true", timeout=PATIENCE * 1000)
    assert '"state":"cancelled"' in watched.text()
