# SPDX-License-Identifier: Apache-2.0
"""Every layout of a real engine fills every other one, between two processes."""

import itertools
import multiprocessing

import numpy as np
import pytest

import kvferry
from ranks import HEADS, LAYERS, LAYOUTS, PROMPT, TOKENS, Engine, Instance

# Other block sizes and TP on each side, in turn.
SHAPES = itertools.cycle(
    [
        ((16, 1), (32, 2)),
        ((8, 2), (16, 1)),
        ((64, 4), (16, 2)),
        ((32, 1), (8, 4)),
        ((16, 2), (16, 2)),
        ((4, 1), (64, 8)),
        ((32, 4), (64, 1)),
        ((1, 2), (64, 4)),
    ]
)
# A latent is no K and V: it meets its like only, in every shape.
LAYOUT_PAIRS = [(a, b) for a, b in itertools.product(LAYOUTS, LAYOUTS) if "mla" not in (a, b)]
LAYOUT_PAIRS += [("mla", "mla")] * 8
PAIRS = [(Engine(a, *c), Engine(b, *g)) for (a, b), (c, g) in zip(LAYOUT_PAIRS, SHAPES)]


def receive_all(connection) -> None:
    """The other process: one generation instance after the other."""
    while (asked := connection.recv()) is not None:
        engine, endpoint, rid = asked
        try:
            with Instance("decode", engine) as generation:
                slots = generation.slots(rid + 1)
                for session in generation.receive(rid, slots, endpoint):
                    session.wait()
                    session.wait_released()
                wrong = sum(rank.wrong_elements(slots) for rank in generation.ranks)
                written = sum(rank.written_elements() for rank in generation.ranks)
            connection.send((wrong, written))
        except Exception as error:
            connection.send((repr(error), 0))


@pytest.fixture(scope="module")
def decode_process():
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=receive_all, args=(theirs,))
    process.start()
    yield mine
    mine.send(None)
    process.join(60)
    assert process.exitcode == 0


@pytest.mark.parametrize(
    "context, generation", PAIRS, ids=lambda engine: "-".join(map(str, vars(engine).values()))
)
def test_every_byte_arrives_between_two_processes(decode_process, context, generation):
    with Instance("prefill", context) as instance:
        sessions = instance.send(7, instance.slots(7))
        decode_process.send((generation, instance.endpoint, 7))
        assert decode_process.poll(60)
        wrong, written = decode_process.recv()
        assert wrong == 0
        for session in sessions:
            session.cancel()  # replicas that nobody asked still wait for somebody
            session.wait_released(30)
    per_rank = (
        PROMPT * LAYERS * 8 * (1 if context.layout == "mla" else 2 * max(1, HEADS // generation.tp))
    )
    whole_blocks = -(-PROMPT // generation.tokens_per_block) * generation.tokens_per_block
    assert per_rank * generation.tp <= written <= per_rank * generation.tp * whole_blocks / PROMPT


def test_a_tensor_that_cannot_be_is_refused_with_its_name():
    cache = np.zeros((2, 4, 16, 2, 8), np.float16)
    place = kvferry.Parallelism([4])
    with pytest.raises(kvferry.Error, match="model.layers.3") as refused:
        kvferry.Pages.from_tensors(
            [kvferry.Tensor(cache, "kv block token depth dim", 3, heads=2, name="model.layers.3")],
            place,
        )
    assert refused.value.code == kvferry.Code.INVALID_ARGUMENT
    with pytest.raises(TypeError, match="no tensor"):
        kvferry.Pages.from_tensors([kvferry.Tensor([1, 2], "token dim", 0)], place)
    with pytest.raises(kvferry.Error):
        kvferry.Pages.from_tensors([], kvferry.Parallelism([]))


def test_strided_views_of_an_ordinary_array():
    whole = np.zeros((6, 2, 16, 2, 12), np.uint16)
    part = whole[1:5, ..., ::2]  # four blocks, every second element
    with pytest.raises(kvferry.Error):  # a head of a token is no stretch of bytes
        kvferry.Pages.from_tensors(
            [kvferry.Tensor(part, "block kv token head dim", 0, heads=2, element_type="bf16")],
            kvferry.Parallelism([1]),
        )
    pages = kvferry.Pages.from_tensors(
        [kvferry.Tensor(whole[1:5], "block kv token head dim", 0, heads=2, element_type="bf16")],
        kvferry.Parallelism([1]),
    )
    assert not pages.on_cuda
    del part
    with kvferry.Worker("strided", pages) as worker:
        assert worker.statistics().sessions_live == 0
    assert TOKENS > PROMPT
