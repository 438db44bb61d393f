# SPDX-License-Identifier: Apache-2.0
"""transformers in two processes, over every pair of page layouts: tokens as one process has them.

KVFERRY_DEVICES="cuda:0 cuda:1" puts the two sides on GPUs.
"""

import itertools
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest

pytest.importorskip("transformers")
from paged_transformers import Side, prompts, serve  # noqa: E402

DEVICES = os.environ.get("KVFERRY_DEVICES", "cpu cpu").split()
EXAMPLE = Path(__file__).parents[4] / "tools/python/examples/transformers_pages.py"


def test_the_example() -> None:
    subprocess.run([sys.executable, str(EXAMPLE), *DEVICES], check=True, timeout=120)


class Prefill:
    """The other process, which has all layouts at once."""

    def __init__(self) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process
        self.process = process(target=serve, args=(theirs, DEVICES[0]))
        self.process.start()
        self.endpoints = self.pipe.recv()
        self.expected = self.pipe.recv()

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(30)
        assert self.process.exitcode == 0


@pytest.fixture(scope="module")
def prefill() -> Any:
    result = Prefill()
    yield result
    result.stop()


PROMPTS = prompts()
LAYOUTS = list(Side.LAYOUTS)
rids = itertools.count()


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("target", LAYOUTS)
def test_every_layout_into_every_other(prefill: Prefill, source: str, target: str) -> None:
    side, draw = Side(target, DEVICES[1]), random.Random(source + target)
    chosen = draw.sample(range(len(PROMPTS)), 3)
    with side.worker("decode") as worker:
        for index in chosen:
            slots, first = side.room(len(PROMPTS[index])), next(rids)
            prefill.pipe.send((source, "whole", [(first, index)]))
            rx = worker.receive(
                first,
                slots,
                prompt=len(PROMPTS[index]),
                source=prefill.endpoints[source],
                aux=True,
            )
            token = rx.wait(20).aux.first_tokens[0]
            assert side.decode(slots, PROMPTS[index], token) == prefill.expected[index]
            rx.wait_released(20)


@pytest.mark.parametrize("how", ["whole", "chunks", "layers"])
def test_twenty_at_once(prefill: Prefill, how: str) -> None:
    """In one piece, as chunked prefill computes it, and each layer as soon as it is computed."""
    side = Side("cross-layer", DEVICES[1])
    given: List[Any] = []
    source = prefill.endpoints["flash-attention"]
    with side.worker("decode") as worker:
        for index, prompt in enumerate(PROMPTS):
            slots, rid = side.room(len(prompt)), next(rids)
            rx = worker.receive(rid, slots, prompt=len(prompt), source=source, aux=True)
            given.append((rid, index, slots, rx))
        prefill.pipe.send(("flash-attention", how, [(rid, index) for rid, index, _, _ in given]))
        for _, index, slots, rx in given:
            token = rx.wait(30).aux.first_tokens[0]
            assert side.decode(slots, PROMPTS[index], token) == prefill.expected[index]
            rx.wait_released(20)


def test_the_tokens_depend_on_the_pages(prefill: Prefill) -> None:
    side = Side("flashinfer", DEVICES[1])
    slots = side.room(len(PROMPTS[3]))  # nothing was moved there
    wrong = side.decode(slots, PROMPTS[3], prefill.expected[3][0])
    assert wrong != prefill.expected[3]
