# SPDX-License-Identifier: Apache-2.0
"""NIXL with its UCX backend, as vLLM's connector uses it: lists prepared once, READ by the target, a
notification for the source. It is polled without a pause, which is the fastest that it can be."""

import base64
from typing import Any, Dict, List, Optional

import numpy as np
from nixl._api import nixl_agent, nixl_agent_config

from workloads import Workload

from .system import Place, System


class Nixl(System):
    def __init__(self, workload: Workload, place: Place) -> None:
        super().__init__(workload, place)
        self._agent = nixl_agent(place.side, nixl_agent_config(backends=["UCX"]))
        self.pool[:] = 0  # its pages exist
        self._registered = self._agent.register_memory(
            [(self.pool.ctypes.data, self.pool.nbytes, 0, "")], "DRAM"
        )
        self._told = 0

    def introduce(self) -> Dict[str, Any]:
        metadata = base64.b64encode(self._agent.get_agent_metadata()).decode()
        return {"metadata": metadata, "base": self.pool.ctypes.data}

    def _list(self, agent: str, base: int) -> Any:
        size = self.workload.piece_bytes
        rows = np.zeros((self.workload.slots, 3), np.uint64)
        rows[:, 0] = base + np.arange(self.workload.slots, dtype=np.uint64) * size
        rows[:, 1] = size
        return self._agent.prep_xfer_dlist(agent, rows, "DRAM")

    def meet(self, other: Dict[str, Any]) -> None:
        name = self._agent.add_remote_agent(base64.b64decode(other["metadata"]))
        if self.place.side == "target":
            self._agent.make_connection(name)
            self._own = self._list("NIXL_INIT_AGENT", self.pool.ctypes.data)
            self._theirs = self._list(name, other["base"])

    def offer(self, round_number: int, sources: np.ndarray) -> None:
        self._told = 0

    def settle(self) -> None:
        while self._told < self.workload.transfers:
            self._told += sum(len(texts) for texts in self._agent.get_new_notifs().values())

    def start(self, number: int, transfer: int, sources: np.ndarray, targets: np.ndarray) -> Any:
        handle = self._agent.make_prepped_xfer(
            "READ", self._own, targets, self._theirs, sources, str(number).encode()
        )
        if self._agent.transfer(handle) == "ERR":
            raise RuntimeError("transfer() answered ERR")
        return handle

    def wait(self, started: List[Any]) -> int:
        while True:
            for index, handle in enumerate(started):
                state = self._agent.check_xfer_state(handle)
                if state == "DONE":
                    self._agent.release_xfer_handle(handle)
                    return index
                if state != "PROC":
                    raise RuntimeError(f"check_xfer_state() answered {state}")

    def writable(self, started: Any) -> Optional[str]:
        try:
            self._agent.release_xfer_handle(started)
        except Exception as error:
            return f"release_xfer_handle(): {type(error).__name__}"
        return "release_xfer_handle() succeeds; says nothing of writes"
