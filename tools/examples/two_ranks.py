# SPDX-License-Identifier: Apache-2.0
"""A whole host in Python: two ranks in one process, and a KV cache that goes from one to the other.

A real host has the two ranks in two processes, mostly on two machines; nothing in the calls changes.
Run it: pip install ./tools/python && python tools/examples/two_ranks.py
"""

import asyncio
import sys

import kvferry


def start_rank(instance: str) -> "tuple[kvferry.Pages, kvferry.Worker]":
    """One rank of an instance: the cache memory, and the worker that moves it."""
    # What the model looks like: 4 layers, 2 KV heads of 64 bf16 elements, blocks of 16 tokens. One pool of
    # 8 slots; an engine with a cache of its own describes its tensors instead (Pages.from_tensors).
    pages = kvferry.Pages.from_model(
        layers=4, kv_heads=2, head_dim=64, tokens_per_block=16, slots=8
    )
    return pages, kvferry.Worker(instance, pages)


async def run() -> None:
    context, prefill = start_rank("context")
    generation, decode = start_rank("generation")
    async with prefill, decode:
        # The context side has computed the prompt's cache: three blocks, wherever there was room.
        for slot in (5, 0, 3):
            view = context.slot(slot)
            view[:] = bytes([0x40 + slot]) * len(view)

        # Both sides name the request by the same number. Either side may come first. It is a prompt of
        # 40 tokens that lies in these slots, all of it in one piece.
        receiving = decode.receive(1, [1, 2, 7], prompt=40, source=prefill.endpoint)
        sending = prefill.send(1, [5, 0, 3], prompt=40)

        # The outcome comes once, at the latest by the deadline. It does not allow the host to reuse the
        # slots: that is `released`, which comes when it is proven that nobody touches them any more.
        outcome = await receiving.outcome()
        await sending.released()
        await receiving.released()

        for source, target in ((5, 1), (0, 2), (3, 7)):
            if context.slot(source) != generation.slot(target):
                raise AssertionError(f"slot {target} is not slot {source}")
        for peer in outcome.peers:
            print(f"context rank {peer.rank} wrote {peer.bytes} bytes, route {peer.route}")


if __name__ == "__main__":
    try:
        asyncio.run(run())
    except kvferry.Error as error:
        sys.exit(f"two_ranks.py: {error}")
