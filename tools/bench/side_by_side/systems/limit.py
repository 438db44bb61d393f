# SPDX-License-Identifier: Apache-2.0
"""The limits: one thread's copy of the same pieces in one process; between namespaces, one TCP stream."""

import socket
import threading
from typing import Any, Dict, List

import numpy as np

from workloads import Workload, fill, pool

from .system import Place, System


class Limit(System):
    fills_itself = True

    def __init__(self, workload: Workload, place: Place) -> None:
        super().__init__(workload, place)
        self._source = self.pool
        if place.one_host and place.side == "target":
            self._source = pool(workload)
            fill(workload, self._source)
        if not place.one_host and place.side == "source":
            fill(workload, self.pool)
            self._listener = socket.create_server((place.address, 0))

    def introduce(self) -> Dict[str, Any]:
        if self.place.one_host or self.place.side == "target":
            return {}
        threading.Thread(target=self._serve, daemon=True).start()
        return {"port": self._listener.getsockname()[1], "address": self.place.address}

    def meet(self, other: Dict[str, Any]) -> None:
        if "port" in other:
            self._stream = socket.create_connection((other["address"], other["port"]))
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _serve(self) -> None:
        """Sends the pieces of a transfer in the order of its targets."""
        stream = self._listener.accept()[0]
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        parts = []  # gathered before the clock: the limit is the stream alone
        for sources, targets in zip(*self.workload.orders()):
            parts.append(self.pool[sources[np.argsort(targets)]].reshape(-1))
        while request := stream.recv(4):
            stream.sendall(memoryview(parts[int.from_bytes(request, "little")]))

    def start(self, number: int, transfer: int, sources: np.ndarray, targets: np.ndarray) -> Any:
        # These targets are a part of the pool in another order: gathered by target, the same copies.
        part = self.pool[targets.min() : targets.min() + len(targets)]
        if self.place.one_host:
            np.take(self._source, sources[np.argsort(targets)], axis=0, out=part, mode="clip")
            return number
        self._stream.sendall(transfer.to_bytes(4, "little"))
        self._left = memoryview(part.reshape(-1))
        while len(self._left) > 0:
            self._left = self._left[self._stream.recv_into(self._left) :]
        return number

    def wait(self, started: List[Any]) -> int:
        return 0
