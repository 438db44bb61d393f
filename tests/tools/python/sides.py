# SPDX-License-Identifier: Apache-2.0
"""What a request costs each side, in a process of its own; memory that grows is soak.py's to find.

python sides.py [requests, 100,000 when left out]
"""

import multiprocessing
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Sequence, Tuple

import kvferry
from soak import AT_ONCE, SLOTS, cpu_seconds, make_pages


@dataclass(frozen=True)
class Used:
    """Seconds of processor time."""

    process: float
    thread: float  # the one that calls kvferry

    @classmethod
    def now(cls) -> "Used":
        return cls(cpu_seconds(), time.thread_time())


def finish(sessions: Sequence[kvferry.Session]) -> Used:
    for session in sessions:
        session.wait_released(60)
        session.result()
    return Used.now()


def context_side(asked: Connection) -> None:
    with kvferry.Worker("prefill", make_pages()) as worker:
        asked.send(worker.endpoint)
        while batch := asked.recv():
            asked.send(finish([worker.send(rid, [rid % SLOTS], prompt=16) for rid in batch]))


def generation_side(context: Connection, requests: int) -> None:
    source = context.recv()
    with kvferry.Worker("decode", make_pages()) as worker:

        def run(batch: range) -> Tuple[Used, Used]:
            context.send(batch)
            used = finish(
                [worker.receive(rid, [rid % SLOTS], prompt=16, source=source) for rid in batch]
            )
            return used, context.recv()

        begun = run(range(AT_ONCE))  # which dials, too
        end = AT_ONCE + requests
        for first in range(AT_ONCE, end, AT_ONCE):
            ended = run(range(first, min(first + AT_ONCE, end)))
        for name, before, after in zip(("generation", "context"), begun, ended):
            process = 1e6 * (after.process - before.process) / requests
            thread = 1e6 * (after.thread - before.thread) / requests
            print(
                f"{name:10}  {process:5.1f} us of CPU for each of {requests:,} requests,"
                f" {thread:.1f} of it in the calling thread"
            )
    context.send(None)


if __name__ == "__main__":
    count = int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=context_side, args=(theirs,))
    other.start()
    generation_side(ours, count)
    other.join()
