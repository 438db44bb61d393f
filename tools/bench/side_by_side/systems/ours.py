# SPDX-License-Identifier: Apache-2.0
"""kvferry through its Python package: a slot for every piece, done when the slots are proven free."""

import time
from typing import Any, Dict, List, Optional

import kvferry
import numpy as np

from workloads import Workload, pool

from .system import Place, System


PROOF = 2.0  # seconds to wait for a release after an error


class Kvferry(System):
    proves = True

    def __init__(self, workload: Workload, place: Place) -> None:
        self.workload, self.place = workload, place
        self._pages = kvferry.Pages.from_model(
            layers=1,
            kv_heads=1,
            head_dim=workload.piece_bytes // 2,
            tokens_per_block=1,
            slots=workload.slots,
            mla=True,
        )
        self.pool = pool(workload, self._pages.memory.view)
        self._worker = kvferry.Worker(
            place.side,
            self._pages,
            bind_address=place.address,
            same_host_link=place.one_host,
            transfer_deadline=place.deadline,
        )
        self._offered: List[kvferry.Tx] = []

    def introduce(self) -> Dict[str, Any]:
        return {"endpoint": self._worker.endpoint}

    def meet(self, other: Dict[str, Any]) -> None:
        self._other = other["endpoint"]
        if self.place.side == "target":
            self._worker.connect(self._other)

    def offer(self, round_number: int, sources: np.ndarray) -> None:
        first = round_number * self.workload.transfers
        self._offered = [
            self._worker.send(first + index, slots, prompt=len(slots))
            for index, slots in enumerate(sources)
        ]

    def settle(self) -> None:
        for session in self._offered:
            session.wait_released(30)

    def start(self, number: int, transfer: int, sources: np.ndarray, targets: np.ndarray) -> Any:
        return self._worker.receive(number, targets, prompt=len(targets), source=self._other)

    def wait(self, started: List[Any]) -> int:
        while True:
            for index, session in enumerate(started):
                if session.is_released or session.ended:
                    session.result()
                if session.is_released:
                    return index
            self._worker.wait(0.2)
            self._worker.poll()

    def writable(self, started: Any) -> Optional[str]:
        begin = time.monotonic()
        try:
            started.wait_released(PROOF)
        except kvferry.Error:
            return "its slots are kept, not proven free"
        return f"its slots proven free {time.monotonic() - begin:.3f} s later"

    def close(self) -> None:
        self._worker.close()
