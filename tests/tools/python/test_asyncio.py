# SPDX-License-Identifier: Apache-2.0
"""Sessions that are awaited."""

import asyncio
import gc
import os
import threading

import pytest

import kvferry
from test_transfer import make_pages


def worker_pair(**options):
    return kvferry.Worker("prefill", make_pages(), **options), kvferry.Worker(
        "decode", make_pages(), **options
    )


def test_a_thousand_transfers_at_once():
    async def transfer(context, generation, rid):
        rx = generation.receive(rid, [rid % 8], prompt=16, source=context.endpoint)
        tx = context.send(rid, [rid % 8], prompt=16)
        outcome = await rx.outcome()
        await asyncio.gather(tx.released(), rx.released())
        return outcome.bytes

    async def run():
        context, generation = worker_pair()
        with context, generation:
            moved = await asyncio.gather(
                *(transfer(context, generation, rid) for rid in range(1000))
            )
            assert context.statistics().sessions_live == 0
            return moved

    assert set(asyncio.run(run())) == {4 * 2 * 2 * 16 * 8 * 2}


def test_failures_and_awaits_that_are_given_up():
    async def run():
        context, generation = worker_pair()
        with context, generation:
            lonely = generation.receive(1, [0], prompt=16, source="127.0.0.1:1")
            with pytest.raises(kvferry.Error) as failed:
                await lonely.outcome()
            assert failed.value.code == kvferry.Code.DIAL_FAILED
            await lonely.released()

            tx = context.send(2, [0], prompt=16)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(tx.outcome(), 0.01)
            tx.cancel()
            await tx.released()
            with pytest.raises(kvferry.Error):
                await tx.outcome()

    asyncio.run(run())


def test_a_worker_that_is_closed_wakes_who_awaits():
    async def run():
        context, generation = worker_pair()
        with generation:
            rx = generation.receive(1, [0], prompt=16, source=context.endpoint)
            waiting = asyncio.ensure_future(rx.outcome())
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, generation.close)
            with pytest.raises(kvferry.Error):
                await waiting
            await rx.released()
        context.close()

    asyncio.run(run())


def test_loops_in_several_threads_share_a_worker():
    context, generation = worker_pair()
    moved = []

    async def run(first):
        for rid in range(first, first + 50):
            rx = generation.receive(rid, [0], prompt=16, source=context.endpoint)
            tx = context.send(rid, [0], prompt=16)
            await rx.outcome()
            await tx.released()
            await rx.released()
            moved.append(rid)

    with context, generation:
        threads = [
            threading.Thread(target=lambda first=first: asyncio.run(run(first)))
            for first in (0, 100, 200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(moved) == 150


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_loops_that_were_closed_leave_nothing_behind():
    context, generation = worker_pair()

    async def run(rid):
        rx = generation.receive(rid, [0], prompt=16, source=context.endpoint)
        tx = context.send(rid, [0], prompt=16)
        await asyncio.gather(rx.released(), tx.released())

    with context, generation:
        asyncio.run(run(0))
        gc.collect()
        before = descriptors()
        for rid in range(1, 20):
            asyncio.run(run(rid))
        gc.collect()
        assert descriptors() < before + 10  # 38 have been made; those of links come and go


def test_a_worker_may_be_closed_by_the_loop_that_it_wakes():
    async def run():
        before = descriptors()
        for rid in range(10):
            context, generation = worker_pair()
            async with context, generation:
                rx = generation.receive(rid, [0], prompt=16, source=context.endpoint)
                context.send(rid, [0], prompt=16)
                await rx.released()
            await asyncio.sleep(0)  # the loop lets go of the descriptor
        assert descriptors() < before + 10  # 20 have been made

    asyncio.run(run())
