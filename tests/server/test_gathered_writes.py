"""Writes of one turn of the loop travel together, in order, and none is lost."""

import asyncio
from collections.abc import Sequence
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from server.gathered_writes import MOST_BYTES, GatheredWrites, TurnsEnd


class Recording(asyncio.Transport):
    """Keeps what it is told to do, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.told.append(data)

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.told

    def get_write_buffer_size(self) -> int:
        return 7


async def turns(gathered: GatheredWrites, each: Sequence[Sequence[bytes]]) -> None:
    for writes in each:
        for data in writes:
            gathered.write(data)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@given(each=st.lists(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4), max_size=5))
def test_one_call_a_turn_with_all_its_bytes_in_order(each):
    async def told() -> list[bytes | str]:
        below = Recording()
        await turns(GatheredWrites(below, TurnsEnd(asyncio.get_running_loop())), each)
        return below.told

    assert asyncio.run(told()) == [b"".join(writes) for writes in each]


PARTS = st.tuples(st.booleans(), st.binary(min_size=1, max_size=40))


@given(each=st.lists(st.lists(PARTS, min_size=1, max_size=5), max_size=5))
def test_frames_of_a_turn_are_one_chunk_in_the_order_of_all_writes(each):
    """Written as a chunk or as it is; joined neighbours are what an HTTP/1.1 reader must find."""

    async def told() -> list[bytes | str]:
        below = Recording()
        gathered = GatheredWrites(below, TurnsEnd(asyncio.get_running_loop()))
        for parts in each:
            for is_frame, data in parts:
                (gathered.write_chunk if is_frame else gathered.write)(data)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return below.told

    expected = []
    for parts in each:
        sent = b""
        for is_frame, neighbours in groupby(parts, key=lambda part: part[0]):
            data = b"".join(data for _, data in neighbours)
            sent += b"%x\r\n%b\r\n" % (len(data), data) if is_frame else data
        expected.append(sent)
    assert asyncio.run(told()) == expected


def test_a_connection_that_fails_keeps_nothing_from_the_others():
    class Gone(Recording):
        def write(self, data: object) -> None:
            raise OSError("nobody is there")

    async def told() -> tuple[list[bytes | str], list[object]]:
        loop, problems, below = asyncio.get_running_loop(), [], Recording()
        loop.set_exception_handler(lambda _, about: problems.append(str(about["exception"])))
        end = TurnsEnd(loop)
        for transport in (Gone(), below):
            GatheredWrites(transport, end).write(b"hello")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return below.told, problems

    assert asyncio.run(told()) == ([b"hello"], ["nobody is there"])


def test_much_does_not_wait_for_the_end_of_the_turn():
    async def told() -> list[bytes | str]:
        below = Recording()
        gathered = GatheredWrites(below, TurnsEnd(asyncio.get_running_loop()))
        gathered.write(b"a" * MOST_BYTES)
        assert (below.told, gathered.get_write_buffer_size()) == ([], MOST_BYTES + 7)
        gathered.write(b"b")
        assert gathered.get_write_buffer_size() == 7
        return below.told

    assert asyncio.run(told()) == [b"a" * MOST_BYTES + b"b"]


def test_closing_sends_what_waits_and_hanging_up_does_not():
    async def told() -> tuple[list[bytes | str], list[bytes | str]]:
        end = TurnsEnd(asyncio.get_running_loop())
        closed, dropped = Recording(), Recording()
        one, two = GatheredWrites(closed, end), GatheredWrites(dropped, end)
        one.write_chunk(b"last words")
        one.close()
        two.write(b"to")
        two.write_chunk(b"nobody")
        two.abort()
        await turns(one, [])
        await asyncio.sleep(0)
        assert one.is_closing()
        assert not two.is_closing()
        return closed.told, dropped.told

    assert asyncio.run(told()) == ([b"a\r\nlast words\r\n", "close"], ["abort"])
