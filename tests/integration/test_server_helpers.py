"""Pages that wait in one server and are read by another: two real servers, and clients that know only the first."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from yarl import URL

from ocr_inference import __version__
from ocr_inference.api.peers import exchange
from tests.support import pages
from tests.support.inference import Server, form, refusal, server, turn
from tests.support.patience import PATIENCE

TOKEN = "admin-token-of-this-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


class Pair:
    """A server whose model never gets ready by itself, and one that helps."""

    def __init__(self, crowded: Server, helper: Server, loads: Path, helper_faults: Path) -> None:
        self.crowded = crowded
        self.helper = helper
        self._loads = loads
        self.helper_faults = helper_faults

    async def help(self, **changed: Any) -> tuple[int, Any]:
        url = URL(self.helper.running.url)
        body = {"model": "m", "ip": url.host, "port": url.port} | changed
        return await self.crowded.json("POST", "/v1/helpers", json=body, headers=ADMIN)

    def let_load(self) -> None:
        """Let the first server's model get ready."""
        self._loads.write_text("{}")

    async def reads(self, count: int) -> list[asyncio.Task[tuple[int, Any]]]:
        """So many pages that wait in the first server."""
        found = [asyncio.create_task(self.crowded.read(pages.blank())) for _ in range(count)]
        await self.crowded.until("m", waiting=count)
        return found


@asynccontextmanager
async def pair(folder: Path, *, pages_at_once: int = 1, **options: Any) -> AsyncIterator[Pair]:
    token = folder / "token"
    token.write_text(TOKEN)
    faults = [folder / "first.json", folder / "second.json"]
    faults[0].write_text(json.dumps({"load": "hold"}))
    faults[1].write_text("{}")
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                server(
                    json.dumps(
                        {
                            "models": [
                                {
                                    "name": "m",
                                    "engine": "fake",
                                    "options": {"faults_file": str(each), **options},
                                }
                            ],
                            "batching": {"maxPages": pages_at_once},
                        }
                    ),
                    admin_token_file=token,
                )
            )
            for each in faults
        ]
        found = Pair(servers[0], servers[1], faults[0], faults[1])
        try:
            yield found
        finally:
            found.let_load()


async def test_pages_that_wait_are_read_by_a_helper_and_their_clients_notice_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        waiting = await both.reads(5)
        status, body = await both.help()
        assert (status, body["success"]) == (200, True)
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*waiting)
        assert [status for status, _ in answers] == [200] * 5
        assert {body["text"] for _, body in answers} == {answers[0][1]["text"]}
        assert (await both.crowded.model("m"))["state"] == "loading", "it can't have read them itself"
        assert (await both.helper.model("m"))["in_flight"] == 0


async def test_a_chat_is_streamed_through(tmp_path: Path) -> None:
    async with pair(tmp_path, step_seconds=0.001, repeat=3) as both:
        body = {"model": "m", "stream": True, "messages": [turn(pages.blank(), "read")]}

        async def chat() -> list[str]:
            async with both.crowded.http.post("/v1/chat/completions", json=body) as response:
                assert response.status == 200
                lines = [line async for line in response.content if line.startswith(b"data: {")]
            choices = [json.loads(line.removeprefix(b"data: "))["choices"] for line in lines]
            return [each[0]["delta"].get("content") or "" for each in choices if each]

        streamed = asyncio.create_task(chat())
        await both.crowded.until("m", waiting=1)
        assert (await both.help())[0] == 200
        async with asyncio.timeout(PATIENCE):
            parts = await streamed
        assert len([each for each in parts if each]) > 1, "it comes in pieces"
        _, whole = await both.helper.chat(body | {"stream": False})
        assert "".join(parts) == whole["choices"][0]["message"]["content"]


async def test_a_page_is_as_old_in_the_helper_as_where_it_waited(tmp_path: Path) -> None:
    asked = {"version": __version__, "model": "m", "options": {}, "waited": 60}
    async with pair(tmp_path, infer_seconds=0.2) as both:
        at = both.helper
        assert (await at.json("POST", "/gpu/load", headers=ADMIN))[0] == 200
        both.helper_faults.write_text(json.dumps({"infer": "hold"}))
        held = asyncio.create_task(at.read(pages.blank()))
        await at.until("m", in_flight=1)
        younger = asyncio.create_task(at.read(pages.blank()))
        await at.until("m", waiting=1)

        async def older() -> int:
            data = form(pages.blank(), **{exchange.FIELD: json.dumps(asked)})
            async with at.http.post("/v1/pages", data=data, headers=ADMIN) as response:
                await response.read()
                return response.status

        handed = asyncio.create_task(older())
        await at.until("m", waiting=2)
        both.helper_faults.write_text("{}")
        async with asyncio.timeout(PATIENCE):
            assert await handed == 200
            assert not younger.done()
            await asyncio.gather(held, younger)


async def test_a_fault_of_the_page_is_the_clients(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        picture = pages.blank()
        bad = asyncio.create_task(both.crowded.read(picture[: len(picture) // 2]))
        await both.crowded.until("m", waiting=1)
        assert (await both.help())[0] == 200
        async with asyncio.timeout(PATIENCE):
            status, body = await bad
        assert (status, refusal(body)["code"]) == (422, "invalid_image")


async def test_what_a_helper_cannot_read_is_read_here(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.helper_faults.write_text(json.dumps({"infer": "fail"}))
        waiting = await both.reads(2)
        assert (await both.help())[0] == 200
        await both.helper.until("m", in_flight=0, waiting=0)
        both.let_load()
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*waiting)
        assert [status for status, _ in answers] == [200, 200]


async def test_a_helper_that_goes_away_takes_no_page_with_it(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.helper_faults.write_text(json.dumps({"infer": "hang"}))
        waiting = await both.reads(3)
        assert (await both.help())[0] == 200
        await both.helper.until("m", in_flight=1)
        closing = asyncio.create_task(both.helper.running.manager.close(0.0))
        both.let_load()
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*waiting)
            await closing
        assert [status for status, _ in answers] == [200] * 3


async def test_a_client_that_leaves_frees_the_helper(tmp_path: Path) -> None:
    async with pair(tmp_path, step_seconds=0.01, repeat=100_000) as both:
        (waiting,) = await both.reads(1)
        assert (await both.help())[0] == 200
        await both.helper.until("m", in_flight=1)
        waiting.cancel()
        await both.helper.until("m", in_flight=0, waiting=0)


async def test_both_calls_need_the_admin_token_and_are_closed_where_there_is_none(tmp_path: Path) -> None:
    helper = {"model": "m", "ip": "127.0.0.1", "port": 9}
    asked = json.dumps({"version": "0", "model": "m", "options": {}})

    def requests(
        at: Server, headers: dict[str, str]
    ) -> list[Callable[[], Coroutine[Any, Any, tuple[int, Any]]]]:
        return [
            lambda: at.json("POST", "/v1/helpers", json=helper, headers=headers),
            lambda: at.json(
                "POST", "/v1/pages", data=form(pages.blank(), **{exchange.FIELD: asked}), headers=headers
            ),
        ]

    async with pair(tmp_path) as both, server() as open_server:
        assert [(await each())[0] for each in requests(both.crowded, {})] == [401, 401]
        wrong = {"Authorization": "Bearer another-token"}
        assert [(await each())[0] for each in requests(both.crowded, wrong)] == [403, 403]
        refused = [await each() for each in requests(open_server, {})]
        assert [(status, refusal(body)["code"]) for status, body in refused] == [(403, "controls_closed")] * 2
        status, body = await requests(both.helper, ADMIN)[1]()
        assert (status, refusal(body)["code"]) == (409, "other_version")


async def test_a_helper_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        status, body = await both.help(port=9)
        assert (status, refusal(body)["code"]) == (503, "helper_lost")
        assert (await both.help(ip="example.com"))[0] == 422
        assert (await both.help(model="other"))[0] == 404
        assert (await both.help(more=1))[0] == 422
