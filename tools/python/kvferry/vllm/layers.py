# SPDX-License-Identifier: Apache-2.0
"""Prompts that are sent layer by layer, each layer while the next one is computed."""

import itertools
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from ..errors import Code, Error
from ..session import Tx
from ..worker import Worker
from .messages import Chunk

# A session ends within milliseconds of its cancel, unless a peer is stuck in the middle of a read.
_WITHDRAW_SECONDS = 30.0


class _Part(NamedTuple):
    """A chunk as `Tx.send` takes it."""

    session: Tx
    slots: List[List[int]]
    first_blocks: List[int]
    chunk: Chunk


class LayerWise:
    """One rank's part: the layers that it computes, in each step the chunks that the step computes."""

    def __init__(self, worker: Worker, splits: Sequence[int], layers: Dict[str, int], lease: float):
        self._worker = worker
        self._splits = splits
        self._layers = layers
        self._lease = lease
        self._sessions: Dict[str, Tx] = {}
        self._finished: Set[str] = set()  # requests of these sessions that vLLM is done with
        self._parts: List[_Part] = []
        self._missing: Set[int] = set()  # layers of which this step has sent nothing

    def begin(self, chunks: Iterable[Chunk]) -> None:
        """Before a step computes."""
        self._parts = [self._part(chunk) for chunk in chunks]
        self._missing = set(self._layers.values()) if self._parts else set()

    def _part(self, chunk: Chunk) -> _Part:
        session = self._sessions.get(chunk.request_id)
        if session is None:
            session = self._worker.open_tx(chunk.rid, deadline=self._lease)
            self._sessions[chunk.request_id] = session
        else:
            unless_over(session.extend, self._lease)
        slots = [split_blocks(blocks, n) for blocks, n in zip(chunk.slots, self._splits)]
        first = [block * n for block, n in zip(chunk.first_blocks, self._splits)]
        return _Part(session, slots, first, chunk)

    def computed(self, layer_name: str) -> None:
        """The step has written this layer."""
        layer = self._layers.get(layer_name)
        if layer in self._missing:
            self._missing.discard(layer)
            self._send((layer, layer + 1))

    def end(self) -> None:
        """After the step: whatever `computed` was not told of, as inside a CUDA graph."""
        for layers in list(_stretches(self._missing, sorted(self._layers.values()))):
            self._missing -= set(range(*layers))
            self._send(layers)
        self._parts = []

    def _send(self, layers: Tuple[int, int]) -> None:
        for session, slots, first_blocks, chunk in self._parts:
            unless_over(
                session.send,
                slots,
                prompt=chunk.prompt_tokens,
                tokens=(chunk.begin, chunk.end),
                layers=layers,
                more=bool(self._missing) or chunk.end < chunk.prompt_tokens,
                first_block=first_blocks,
            )

    def give_up(self, request_id: str) -> None:
        if (session := self._sessions.get(request_id)) is not None:
            session.cancel("the request ended before its prompt was computed")

    def withdraw(self, request_id: str) -> None:
        """Returns when nobody reads its blocks any more: vLLM gives them to other requests now."""
        if (session := self._sessions.pop(request_id, None)) is not None:
            session.cancel("the request was preempted")
            session.wait_released(_WITHDRAW_SECONDS)

    def sent(self, finished: Set[str]) -> Set[str]:
        """Requests that vLLM is done with and whose blocks nobody reads any more, since the last call."""
        self._finished |= finished & self._sessions.keys()
        over = {name for name in self._finished if self._sessions[name].is_released}
        self._finished -= over
        for name in over:
            del self._sessions[name]
        return over


def split_blocks(blocks: List[int], parts: int) -> List[int]:
    """A block of vLLM's as the smaller ones that the kernels, and the pages, count."""
    if parts == 1:
        return blocks
    return [
        block if block < 0 else block * parts + part for block in blocks for part in range(parts)
    ]


def _stretches(wanted: Set[int], layers: Sequence[int]) -> Iterator[Tuple[int, int]]:
    """[begin, end) of those that are neighbours in `layers`."""
    for is_wanted, run in itertools.groupby(layers, wanted.__contains__):
        if is_wanted:
            found = list(run)
            yield found[0], found[-1] + 1


def unless_over(call: Any, *args: Any, **kwargs: Any) -> None:
    try:
        call(*args, **kwargs)
    except Error as error:
        if error.code != Code.GONE:  # it ended already: its events say so
            raise
