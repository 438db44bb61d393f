# SPDX-License-Identifier: Apache-2.0
"""Mooncake's transfer engine over TCP, its transport without special hardware: blocking reads by the
target; several in flight are as many threads, as its connectors do it. The source is told nothing."""

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, Dict, List, Optional

import numpy as np
from mooncake.engine import TransferEngine

from workloads import Workload

from .system import Place, System


class Mooncake(System):
    def __init__(self, workload: Workload, place: Place) -> None:
        super().__init__(workload, place)
        self.pool[:] = 0  # its pages exist
        self._engine = TransferEngine()
        status = self._engine.initialize(place.address, "P2PHANDSHAKE", "tcp", "")
        if status != 0:
            raise RuntimeError(f"initialize() answered {status}")
        status = self._engine.register_memory(self.pool.ctypes.data, self.pool.nbytes)
        if status != 0:
            raise RuntimeError(f"register_memory() answered {status}")
        self._threads = ThreadPoolExecutor(workload.in_flight)

    def introduce(self) -> Dict[str, Any]:
        where = f"{self.place.address}:{self._engine.get_rpc_port()}"
        return {"where": where, "base": self.pool.ctypes.data}

    def meet(self, other: Dict[str, Any]) -> None:
        self._other, self._base = other["where"], other["base"]

    def _read(self, sources: np.ndarray, targets: np.ndarray) -> None:
        size, own = self.workload.piece_bytes, self.pool.ctypes.data
        status = self._engine.batch_transfer_sync_read(
            self._other,
            (own + targets.astype(np.int64) * size).tolist(),
            (self._base + sources.astype(np.int64) * size).tolist(),
            [size] * len(targets),
        )
        if status != 0:
            raise RuntimeError(f"batch_transfer_sync_read() answered {status}")

    def start(self, number: int, transfer: int, sources: np.ndarray, targets: np.ndarray) -> Any:
        if self.workload.in_flight > 1:
            return self._threads.submit(self._read, sources, targets)
        self._read(sources, targets)
        return None

    def wait(self, started: List[Any]) -> int:
        if self.workload.in_flight == 1:
            return 0
        wait(started, return_when=FIRST_COMPLETED)
        index = next(index for index, future in enumerate(started) if future.done())
        started[index].result()
        return index

    def writable(self, started: Any) -> Optional[str]:
        return "nothing is said of writes"
