# SPDX-License-Identifier: Apache-2.0
"""Many requests between two ranks of this process: what the process holds meanwhile, and what each costs.

python soak.py [requests, 100,000 when left out]     fails when memory, objects or descriptors grow
"""

import gc
import os
import resource
import sys
from dataclasses import dataclass

import kvferry

AT_ONCE, SLOTS = 100, 8
# Over the second half of the requests: by then what has a fixed size is filled.
GROWN_BYTES_MAX, GROWN_OBJECTS_MAX, GROWN_DESCRIPTORS_MAX = 8 << 20, 1000, 10


@dataclass(frozen=True)
class Held:
    resident_bytes: int
    objects: int  # of Python's
    descriptors: int

    @classmethod
    def now(cls) -> "Held":
        gc.collect()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE"),
            len(gc.get_objects()),
            len(os.listdir("/proc/self/fd")),
        )


def make_pages() -> kvferry.Pages:
    return kvferry.Pages.from_model(
        layers=4, kv_heads=2, head_dim=8, tokens_per_block=16, slots=SLOTS
    )


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(requests: int, tell: bool = False) -> None:
    with (
        kvferry.Worker("prefill", make_pages()) as context,
        kvferry.Worker("decode", make_pages()) as generation,
    ):

        def batch(first: int, count: int) -> None:
            sessions = []
            for rid in range(first, first + count):
                slots = [rid % SLOTS]
                sessions.append(generation.receive(rid, slots, prompt=16, source=context.endpoint))
                sessions.append(context.send(rid, slots, prompt=16))
            for session in sessions:
                session.wait_released(60)
                session.result()

        def part(first: int, end: int) -> Held:
            begin = cpu_seconds()
            for rid in range(first, end, AT_ONCE):
                batch(rid, min(AT_ONCE, end - rid))
            used, held = cpu_seconds() - begin, Held.now()
            if tell:
                print(
                    f"{end:9,} requests  {held.resident_bytes / 1e6:7.1f} MB resident"
                    f"  {held.objects:8,} objects  {held.descriptors:4} descriptors"
                    f"  {1e6 * used / (end - first):5.0f} us of CPU each, both sides",
                    flush=True,
                )
            return held

        bounds = [requests * tenth // 10 for tenth in range(11)]
        tenths = [part(first, end) for first, end in zip(bounds, bounds[1:])]
        warm, held = tenths[4], tenths[9]
        grown = held.resident_bytes - warm.resident_bytes
        assert grown < GROWN_BYTES_MAX, f"{grown} bytes more than after {bounds[5]} requests"
        assert held.objects - warm.objects < GROWN_OBJECTS_MAX, (warm, held)
        assert held.descriptors - warm.descriptors < GROWN_DESCRIPTORS_MAX, (warm, held)
        assert context._events.sessions_left == 0 and generation._events.sessions_left == 0


if __name__ == "__main__":
    run(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000, tell=True)
