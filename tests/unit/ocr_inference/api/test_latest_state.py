import asyncio

from ocr_inference.api.control.latest_state import LatestState


async def test_a_reader_gets_the_newest_and_skips_what_is_between() -> None:
    latest_state = LatestState()
    latest_state.publish(b"1")
    version, data = await latest_state.after(0)
    assert data == b"1"
    latest_state.publish(b"2")
    latest_state.publish(b"3")
    assert await latest_state.after(version) == (version + 2, b"3")


async def test_the_same_state_wakes_nobody() -> None:
    latest_state = LatestState()
    latest_state.publish(b"1")
    version, _ = await latest_state.after(0)
    latest_state.publish(b"1")
    waiting = asyncio.create_task(latest_state.after(version))
    await asyncio.sleep(0)
    assert not waiting.done()
    latest_state.publish(b"2")
    assert (await waiting)[1] == b"2"


async def test_closing_wakes_all_readers() -> None:
    latest_state = LatestState()
    latest_state.publish(b"1")
    version, _ = await latest_state.after(0)
    waiting = [asyncio.create_task(latest_state.after(version)) for _ in range(3)]
    await asyncio.sleep(0)
    latest_state.close()
    assert [await each for each in waiting] == [(version, b"1")] * 3
