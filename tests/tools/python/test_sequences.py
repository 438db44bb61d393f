# SPDX-License-Identifier: Apache-2.0
"""Sequences that are split over CP ranks, compressed, or shared by beams: real bytes, between real ranks."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Iterator, List, Tuple

import numpy as np
import pytest

import kvferry
from kvferry import NO_SLOT

DIM, PROMPT, BLOCKS = 8, 160, 64


@dataclass(frozen=True)
class Split:
    """How an instance keeps a sequence."""

    rows: int  # of a block
    cp: int = 1
    dealt: bool = False  # CP ranks have every cp-th token; else every cp-th block
    tokens_per_row: int = 1

    @property
    def tokens_of_block(self) -> int:
        return self.rows * (self.cp if self.dealt else self.tokens_per_row)


class Instance:
    def __init__(self, name: str, split: Split, seed: int) -> None:
        self.split, self._stack = split, ExitStack()
        self.arrays = [np.zeros((BLOCKS, split.rows, DIM), np.uint16) for _ in range(split.cp)]
        self.workers: List[kvferry.Worker] = []
        for rank, array in enumerate(self.arrays):
            tensor = kvferry.Tensor(
                array,
                "block token dim",
                layers=0,
                role="latent",
                element_type="bf16",
                tokens_per_row=split.tokens_per_row,
                tokens_are_dealt=split.dealt,
            )
            place = kvferry.Parallelism([1], cp_size=split.cp, cp_rank=rank)
            worker = kvferry.Worker(
                name,
                kvferry.Pages.from_tensors([tensor], place),
                info_endpoint=self.workers[0].endpoint if self.workers else "",
                session_deadline=30,
            )
            self.workers.append(self._stack.enter_context(worker))
        count = -(-PROMPT // split.tokens_of_block)
        draw = np.random.default_rng(seed)
        places = [draw.permutation(BLOCKS)[:count].tolist() for _ in range(split.cp)]
        self.slots = [
            [
                slot if split.dealt or block % split.cp == rank else NO_SLOT
                for block, slot in enumerate(of_rank)
            ]
            for rank, of_rank in enumerate(places)
        ]

    def rows(self) -> Iterator[Tuple[np.ndarray, int]]:
        """Every row of the prompt, on the rank that has it, with its first token."""
        split = self.split
        for token in range(0, PROMPT, split.tokens_per_row):
            block, within = divmod(token, split.tokens_of_block)
            rank = within % split.cp if split.dealt else block % split.cp
            row = within // (split.cp if split.dealt else split.tokens_per_row)
            yield self.arrays[rank][self.slots[rank][block], row], token

    def __enter__(self) -> "Instance":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def content(token: int) -> np.ndarray:
    return (1 + token * 131 + np.arange(DIM)).astype(np.uint16)


IN_BLOCKS = [(1, 2), (2, 1), (2, 2), (4, 4)]
DEALT = [(1, 2), (2, 1), (2, 2), (3, 3)]
CASES = [
    (Split(rows, cp), Split(rows, to))  # blocks are counted alike on both sides
    for cp, to in IN_BLOCKS
    for rows in (16,)
]
CASES += [
    (Split(a, cp, True), Split(b, to, True))
    for cp, to in DEALT
    for a, b in ((16, 16), (16, 8), (4, 32))
]
CASES += [
    (Split(a, tokens_per_row=ratio), Split(b, tokens_per_row=ratio))
    for ratio in (4, 16)
    for a, b in ((4, 4), (4, 2), (1, 8), (2, 3))
]


@pytest.mark.parametrize(
    "source, target", CASES, ids=lambda x: "-".join(map(str, vars(x).values()))
)
def test_every_row_arrives_on_the_rank_that_has_it(source: Split, target: Split) -> None:
    with Instance("prefill", source, 1) as context, Instance("decode", target, 2) as generation:
        for row, token in context.rows():
            row[:] = content(token)
        sent = [
            worker.send(1, slots, prompt=PROMPT)
            for worker, slots in zip(context.workers, context.slots)
        ]
        for rx in [
            worker.receive(1, slots, prompt=PROMPT, source=context.workers[0].endpoint)
            for worker, slots in zip(generation.workers, generation.slots)
        ]:
            rx.wait(30)
            rx.wait_released(30)
        for row, token in generation.rows():
            assert row.tolist() == content(token).tolist(), token
        for tx in sent:
            tx.cancel()  # of a rank that nobody asks
            tx.wait_released(30)


def beams_of(array: np.ndarray, beams: int) -> kvferry.Pages:
    """Each beam is a group of the same memory, with slots of its own."""
    tensors = [
        kvferry.Tensor(array, "block kv head token dim", layers=0, heads=2, group=beam)
        for beam in range(beams)
    ]
    return kvferry.Pages.from_tensors(tensors, kvferry.Parallelism([1]))


@pytest.mark.parametrize("shares", [False, True])
def test_beams_have_slots_of_their_own(shares: bool) -> None:
    source, target = (np.zeros((BLOCKS, 2, 2, 16, DIM), np.float16) for _ in range(2))
    source[:] = np.random.default_rng(3).standard_normal(source.shape)
    have = list(range(20, 30))  # the prompt's ten blocks
    first, second = list(range(10)), list(range(10, 20))
    with (
        kvferry.Worker("prefill", beams_of(source, 1)) as context,
        kvferry.Worker("decode", beams_of(target, 2)) as generation,
    ):
        rx = generation.open_rx(1, context.endpoint)
        if shares:  # all but the block in which the beams part
            rx.receive([first, second[-1:]], prompt=PROMPT, first_block=[0, 9])
        else:
            rx.receive([first, second], prompt=PROMPT)
        tx = context.send(1, have, prompt=PROMPT)
        rx.wait(30)
        rx.wait_released(30)
        tx.wait_released(30)
    assert np.array_equal(target[first], source[have])
    own = second[-1:] if shares else second
    assert np.array_equal(target[own], source[have[-len(own) :]])
    untouched = sorted(set(range(BLOCKS)) - set(first) - set(own))
    assert not target[untouched].any()
