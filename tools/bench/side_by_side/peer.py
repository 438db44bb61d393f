# SPDX-License-Identifier: Apache-2.0
"""One side of a pair: carries out what the comparison says, a JSON line each way."""

import importlib
import json
import os
import sys
import time
from typing import Any, Callable, Dict, List

import numpy as np
from systems import PLACES
from systems.system import Place, System

from workloads import CLEARED, Workload, fill, wrong_pieces


class Peer:
    def __init__(self, system: System, workload: Workload, tell: Callable[[Any], None]) -> None:
        self.system, self.workload, self.tell = system, workload, tell
        self.sources, self.targets = workload.orders()

    def introduce(self) -> Any:
        return self.system.introduce()

    def meet(self, other: Dict[str, Any]) -> None:
        self.system.meet(other)

    def clear(self) -> None:
        self.system.pool[:] = CLEARED

    def cpu(self) -> float:
        return time.process_time()  # of all threads

    def offer(self, round_number: int) -> None:
        self.system.offer(round_number, self.sources)

    def settle(self) -> None:
        self.system.settle()

    def pull(self, round_number: int) -> Any:
        """Seconds of each transfer, from its request until it is done, and of all."""
        times: List[float] = []
        begin, cpu = time.perf_counter(), time.process_time()
        for seconds in self._transfers(round_number):
            times.append(seconds)
        return {
            "times": times,
            "seconds": time.perf_counter() - begin,
            "cpu": time.process_time() - cpu,
        }

    def _transfers(self, round_number: int) -> Any:
        first = round_number * self.workload.transfers
        self.begun: List[float] = []
        self.started: List[Any] = []
        for transfer in range(self.workload.transfers):
            if len(self.started) == self.workload.in_flight:
                yield self._one_done()
            self.begun.append(time.perf_counter())
            order = (self.sources[transfer], self.targets[transfer])
            self.started.append(self.system.start(first + transfer, transfer, *order))
        while self.started:
            yield self._one_done()

    def _one_done(self) -> float:
        index = self.system.wait(self.started)
        seconds = time.perf_counter() - self.begun.pop(index)
        self.started.pop(index)
        return seconds

    def pull_to_the_end(self, round_number: int) -> Any:
        """Like pull(); tells of the first transfer, after which the other side gets a signal."""
        last = time.perf_counter()
        try:
            for number, _ in enumerate(self._transfers(round_number)):
                if number == 0:
                    self.tell("first")
                    last = time.perf_counter()
        except Exception as error:
            seconds = time.perf_counter() - last
            answer = {"error": f"{type(error).__name__}: {error}", "seconds": seconds}
            return {**answer, "says": self.says() or "nothing is said of writes"}
        return {"seconds": time.perf_counter() - last}

    def says(self) -> Any:
        """Whether the memory of the oldest transfer that was left may still be written."""
        return self.system.writable(self.started[0]) if self.started else None

    def says_later(self) -> Any:
        return self.says() if self.system.proves else None

    def verify(self) -> int:
        return sum(
            wrong_pieces(self.workload, self.system.pool, sources, targets)
            for sources, targets in zip(self.sources, self.targets)
        )

    def sum(self) -> int:
        return int(self.system.pool.reshape(-1).view(np.uint64).sum(dtype=np.uint64))


def main() -> None:
    name, workload, place = sys.argv[1], Workload(**json.loads(sys.argv[2])), json.loads(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log

    def tell(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")

    try:
        module, kind = PLACES[name]
        system = getattr(importlib.import_module(f"systems.{module}"), kind)(workload, Place(**place))
        if place["side"] == "source" and not system.fills_itself:
            fill(workload, system.pool)
        peer = Peer(system, workload, tell)
        tell({"answer": None})
        for line in sys.stdin:
            request = json.loads(line)
            tell({"answer": getattr(peer, request.pop("do"))(**request)})
        system.close()
    except Exception as error:
        tell({"failed": f"{type(error).__name__}: {error}"})
    answers.flush()
    os._exit(0)  # libraries of others may hang or crash in their destructors


if __name__ == "__main__":
    main()
