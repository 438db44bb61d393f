# SPDX-License-Identifier: Apache-2.0
"""What the comparison asks of a system. The source has the bytes, as prefill has; the target wants them, and
has the clock."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import numpy as np

from workloads import Workload, pool


@dataclass(frozen=True)
class Place:
    side: str  # "source" or "target"
    address: str  # where this side listens
    one_host: bool  # False: only what two machines could do
    deadline: float  # of a transfer, in seconds, where a system has such


class System:
    """One side of one pair, in a process of its own."""

    fills_itself = False
    proves = False  # that memory is free: may be asked again

    def __init__(self, workload: Workload, place: Place) -> None:
        self.workload, self.place = workload, place
        self.pool = pool(workload)

    def introduce(self) -> Dict[str, Any]:
        """What the other side needs to know, as JSON."""
        return {}

    def meet(self, other: Dict[str, Any]) -> None:
        """Before the clock: connections are made where a system can do that ahead."""

    def offer(self, round_number: int, sources: np.ndarray) -> None:
        """Source, before the clock: prefill is over."""

    def settle(self) -> None:
        """Source, after the clock: takes what it has been told, so that its pages are free."""

    def start(self, number: int, transfer: int, sources: np.ndarray, targets: np.ndarray) -> Any:
        """Target: asks for a transfer, whose number is new. Does not wait, where a system lets one."""
        raise NotImplementedError

    def wait(self, started: List[Any]) -> int:
        """Target: waits for one of these to be done, and says which. Raises when one has failed."""
        raise NotImplementedError

    def writable(self, started: Any) -> Optional[str]:
        """Target, after a failure: what the system says about whether memory may still be written."""
        return None

    def close(self) -> None:
        pass
