# SPDX-License-Identifier: Apache-2.0
"""Instances whose caches are numpy tensors in the layouts of real engines. What an element must hold is
said by its indexes alone; nothing here is shared with the planner."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Dict, List, Sequence

import numpy as np

import kvferry

LAYERS, HEADS, DIM, TOKENS, PROMPT = 3, 4, 8, 192, 150

# Dimensions of one tensor, and whether it has all layers; "sglang" has K and V apart.
LAYOUTS = {
    "flash-attention": "kv block token head dim",
    "flashinfer": "block kv head token dim",
    "packed": "block head token kv dim",
    "cross-layer": "block layer kv token head dim",
    "trtllm": "block layer kv head token dim",
    "sglang": "token head dim",
    "mla": "block token dim",
}


@dataclass(frozen=True)
class Engine:
    layout: str
    tokens_per_block: int
    tp: int


def content(layer: int, roles: Sequence[int], heads: Sequence[int]) -> np.ndarray:
    """[role][token][head][dim] of the whole prompt."""
    role, token, head, dim = np.ix_(roles, range(PROMPT), heads, range(DIM))
    return (1 + (layer * 7919 + role * 3571 + token * 131 + head * 17 + dim) % 65521).astype(
        np.uint16
    )


class Rank:
    """One rank's tensors, and its prompt as [role][token][head][dim] whatever their order is."""

    def __init__(self, engine: Engine, rank: int) -> None:
        self.engine = engine
        own = 1 if engine.layout == "mla" else max(1, HEADS // engine.tp)
        self.heads = (
            [0]
            if engine.layout == "mla"
            else [rank * HEADS // engine.tp + index for index in range(own)]
        )
        self.roles = [0] if engine.layout == "mla" else [0, 1]
        blocks = TOKENS // engine.tokens_per_block
        self.place = kvferry.Parallelism([LAYERS], tp_size=engine.tp, tp_rank=rank)
        dims = LAYOUTS[engine.layout]
        sizes = {
            "kv": 2,
            "block": blocks,
            "layer": LAYERS,
            "token": engine.tokens_per_block,
            "head": own,
            "dim": DIM,
        }
        if "block" not in dims:
            sizes["token"] = TOKENS
        shape = [sizes[name] for name in dims.split()]
        self.memory = kvferry.Memory(LAYERS * 2 * TOKENS * own * DIM * 2, engine.layout)
        self.tensors: List[kvferry.Tensor] = []
        self._arrays: Dict[int, List[np.ndarray]] = {layer: [] for layer in range(LAYERS)}
        used = 0
        for layer in range(1 if "layer" in dims else LAYERS):
            for role in (
                ["key", "value"]
                if engine.layout == "sglang"
                else ["latent"] if engine.layout == "mla" else [""]
            ):
                array = np.frombuffer(
                    self.memory.view, np.uint16, int(np.prod(shape)), used
                ).reshape(shape)
                used += array.nbytes
                self.tensors.append(
                    kvferry.Tensor(
                        array,
                        dims,
                        role=role,
                        element_type="bf16",
                        heads=0 if engine.layout == "mla" else HEADS,
                        layers=list(range(LAYERS)) if "layer" in dims else layer,
                        tokens_per_block=engine.tokens_per_block if "block" not in dims else 0,
                    )
                )
                for each in range(LAYERS) if "layer" in dims else [layer]:
                    self._arrays[each].append(self._in_order(array, dims, each))
        self.pages = kvferry.Pages.from_tensors(self.tensors, self.place)

    def _in_order(self, array: np.ndarray, dims: str, layer: int) -> np.ndarray:
        """The same memory as [role][block][token][head][dim]."""
        names = dims.split()
        if "layer" in names:
            array = array[(slice(None),) * names.index("layer") + (layer,)]
            names.remove("layer")
        if "block" not in names:
            array = array.reshape(-1, self.engine.tokens_per_block, *array.shape[1:])
            names.insert(0, "block")
        for missing in ("kv", "head"):
            if missing not in names:
                array = array[np.newaxis]
                names.insert(0, missing)
        return array.transpose(
            [names.index(name) for name in ("kv", "block", "token", "head", "dim")]
        )

    def _parts(self, slots: Sequence[int]):
        """(layer, view of all blocks, tokens of the prompt in each slot)"""
        size = self.engine.tokens_per_block
        for layer in range(LAYERS):
            roles = [view for array in self._arrays[layer] for view in array]
            for position, slot in enumerate(slots):
                begin = position * size
                count = min(size, PROMPT - begin)
                if count > 0:
                    yield layer, [view[slot, :count] for view in roles], slice(begin, begin + count)

    def fill(self, slots: Sequence[int]) -> None:
        for layer, views, tokens in self._parts(slots):
            for view, values in zip(views, content(layer, self.roles, self.heads)):
                view[...] = values[tokens]

    def wrong_elements(self, slots: Sequence[int]) -> int:
        wrong = 0
        for layer, views, tokens in self._parts(slots):
            for view, values in zip(views, content(layer, self.roles, self.heads)):
                wrong += int(np.count_nonzero(view != values[tokens]))
        return wrong

    def written_elements(self) -> int:
        return int(np.count_nonzero(np.frombuffer(self.memory.view, np.uint16)))


class Instance:
    """All ranks of one model replica, in this process."""

    def __init__(self, name: str, engine: Engine, **options: object) -> None:
        self.engine = engine
        self.ranks = [Rank(engine, rank) for rank in range(engine.tp)]
        self.workers: List[kvferry.Worker] = []
        self._stack = ExitStack()
        for rank in self.ranks:
            first = self.workers[0].endpoint if self.workers else ""
            worker = kvferry.Worker(
                name, rank.pages, info_endpoint=first, session_deadline=30, **options
            )
            self.workers.append(self._stack.enter_context(worker))

    @property
    def endpoint(self) -> str:
        return self.workers[0].endpoint

    def slots(self, seed: int) -> np.ndarray:
        blocks = TOKENS // self.engine.tokens_per_block
        needed = -(-PROMPT // self.engine.tokens_per_block)
        return np.random.default_rng(seed).permutation(blocks)[:needed].astype(np.int32)

    def send(self, rid: int, slots: np.ndarray) -> List[kvferry.Tx]:
        for rank in self.ranks:
            rank.fill(slots)
        return [worker.send(rid, slots, prompt=PROMPT) for worker in self.workers]

    def receive(self, rid: int, slots: np.ndarray, source: str) -> List[kvferry.Rx]:
        return [worker.receive(rid, slots, prompt=PROMPT, source=source) for worker in self.workers]

    def __enter__(self) -> "Instance":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
