# SPDX-License-Identifier: Apache-2.0
"""What is moved: pieces of one size, which slots they lie in, and what every byte must be."""

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

CLEARED = 0xEE
_WORD = np.dtype(np.uint32)


@dataclass(frozen=True)
class Workload:
    name: str
    pieces: int  # of one transfer
    piece_bytes: int
    transfers: int  # in one round
    in_flight: int

    @property
    def slots(self) -> int:
        """Slots of each side's pool: each is used once in a round."""
        return self.pieces * self.transfers

    @property
    def transfer_bytes(self) -> int:
        return self.pieces * self.piece_bytes

    @property
    def round_bytes(self) -> int:
        return self.transfer_bytes * self.transfers

    def orders(self) -> Tuple[np.ndarray, np.ndarray]:
        """[transfer][piece] of source slots, shuffled over the pool, and of target slots, shuffled over the
        transfer's own part of it. The same for everybody."""
        draw = np.random.default_rng(1)
        sources = draw.permutation(self.slots).reshape(self.transfers, self.pieces)
        targets = np.stack([draw.permutation(self.pieces) for _ in range(self.transfers)])
        targets += np.arange(self.transfers)[:, None] * self.pieces
        return sources.astype(np.int32), targets.astype(np.int32)


# A round has enough transfers for a percentile, or for a pool larger than a cache.
WORKLOADS = [
    Workload("1 x 4 KiB", 1, 4096, 200, 1),
    Workload("1 x 4 KiB", 1, 4096, 200, 8),
    Workload("1024 x 4 KiB", 1024, 4096, 16, 1),
    Workload("1024 x 4 KiB", 1024, 4096, 16, 8),
    Workload("1024 x 64 KiB", 1024, 65536, 4, 1),
    Workload("1024 x 64 KiB", 1024, 65536, 4, 4),
    Workload("7808 x 72 KiB", 7808, 73728, 1, 1),
]
QUICK = [
    Workload("1 x 4 KiB", 1, 4096, 20, 1),
    Workload("1024 x 4 KiB", 1024, 4096, 4, 4),
    Workload("1024 x 64 KiB", 1024, 65536, 1, 1),
]


def pool(workload: Workload, memory: object = None) -> np.ndarray:
    """[slot][byte], in `memory` when there is one."""
    shape = (workload.slots, workload.piece_bytes)
    if memory is None:
        return np.empty(shape, np.uint8)
    return np.frombuffer(memory, np.uint8, workload.slots * workload.piece_bytes).reshape(shape)  # type: ignore


def _words(workload: Workload, slots: np.ndarray) -> np.ndarray:
    """What source slots hold: every word of the pool is another one."""
    count = workload.piece_bytes // _WORD.itemsize
    first = slots.astype(np.uint32)[:, None] * np.uint32(count)
    return (first + np.arange(count, dtype=np.uint32)) * np.uint32(2654435761) + np.uint32(1)


def _chunks(workload: Workload) -> int:
    return max(1, (4 << 20) // workload.piece_bytes)


def fill(workload: Workload, memory: np.ndarray) -> None:
    words, step = memory.view(_WORD), _chunks(workload)
    for begin in range(0, workload.slots, step):
        slots = np.arange(begin, min(begin + step, workload.slots))
        words[slots] = _words(workload, slots)


def wrong_pieces(
    workload: Workload, memory: np.ndarray, sources: np.ndarray, targets: np.ndarray
) -> int:
    """Target pieces of which a byte is not that of their source."""
    words, step, wrong = memory.view(_WORD), _chunks(workload), 0
    for begin in range(0, len(sources), step):
        expected = _words(workload, sources[begin : begin + step])
        wrong += int((words[targets[begin : begin + step]] != expected).any(axis=1).sum())
    return wrong


def percentile(values: List[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
