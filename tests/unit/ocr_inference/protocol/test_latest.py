import asyncio

from ocr_inference.protocol.latest import Latest


async def test_a_reader_gets_the_latest_and_skips_what_is_between() -> None:
    latest = Latest("0")
    assert await latest.after(-1) == (0, "0")
    latest.publish("1")
    version, value = await latest.after(0)
    assert value == "1"
    latest.publish("2")
    latest.publish("3")
    assert await latest.after(version) == (version + 2, "3")


async def test_an_equal_value_wakes_no_reader() -> None:
    latest = Latest("1")
    waiting = asyncio.create_task(latest.after(0))
    latest.publish("1")
    await asyncio.sleep(0)
    assert not waiting.done()
    latest.publish("2")
    assert (await waiting)[1] == "2"


async def test_closing_wakes_all_readers() -> None:
    latest = Latest("1")
    waiting = [asyncio.create_task(latest.after(0)) for _ in range(3)]
    await asyncio.sleep(0)
    latest.close()
    assert [await each for each in waiting] == [(0, "1")] * 3
