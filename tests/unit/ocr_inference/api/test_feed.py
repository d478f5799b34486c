import asyncio

from ocr_inference.api.control.feed import Feed


async def test_a_reader_gets_the_newest_and_skips_what_is_between() -> None:
    feed = Feed()
    feed.publish(b"1")
    version, data = await feed.after(0)
    assert data == b"1"
    feed.publish(b"2")
    feed.publish(b"3")
    assert await feed.after(version) == (version + 2, b"3")


async def test_the_same_state_wakes_nobody() -> None:
    feed = Feed()
    feed.publish(b"1")
    version, _ = await feed.after(0)
    feed.publish(b"1")
    waiting = asyncio.create_task(feed.after(version))
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.publish(b"2")
    assert (await waiting)[1] == b"2"


async def test_closing_wakes_all_readers() -> None:
    feed = Feed()
    feed.publish(b"1")
    version, _ = await feed.after(0)
    waiting = [asyncio.create_task(feed.after(version)) for _ in range(3)]
    await asyncio.sleep(0)
    feed.close()
    assert [await each for each in waiting] == [(version, b"1")] * 3
