# SPDX-License-Identifier: Apache-2.0
"""A prompt's pages from one GPU to another process's, beside torch's own copies, as ratios. A table.

    python two_gpus.py [--devices cuda:0 cuda:1] [--layers 32] [--blocks 256] [--rounds 7]

The defaults are 512 MiB: 4,096 tokens of 32 layers with 8 KV heads of 128, in blocks of 16.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from typing import Any, Dict, Iterator, List

import torch

import kvferry

TOKENS, HEADS, DIM = 16, 8, 128
CASES = {  # PYTORCH_CUDA_ALLOC_CONF
    "torch's default allocator": "",
    "expandable segments": "expandable_segments:True",
    "cudaMallocAsync": "backend:cudaMallocAsync",
    "pinned host memory": "",
    "plain host memory": "",
}


def cache(device: str, layers: int, blocks: int, pinned: bool = False) -> List[torch.Tensor]:
    options: Dict[str, Any] = dict(device=device, dtype=torch.bfloat16)
    if pinned:
        options["pin_memory"] = True
    # Twice as many blocks as are moved: a request's lie here and there.
    return [torch.zeros(2, 2 * blocks, TOKENS, HEADS, DIM, **options) for _ in range(layers)]


def start(name: str, tensors: List[torch.Tensor]) -> kvferry.Worker:
    dims = "kv block token head dim"
    described = [
        kvferry.Tensor(each, dims, layer, heads=HEADS) for layer, each in enumerate(tensors)
    ]
    pages = kvferry.Pages.from_tensors(described, kvferry.Parallelism([len(tensors)]))
    return kvferry.Worker(name, pages)


def slots(blocks: int, seed: int) -> List[int]:
    return torch.randperm(2 * blocks, generator=torch.Generator().manual_seed(seed))[
        :blocks
    ].tolist()


@contextlib.contextmanager
def hogged(wanted: bool) -> Iterator[None]:
    """Another thread of this process computes in Python meanwhile."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=run)
    if wanted:
        thread.start()
    yield
    stop.set()
    if wanted:
        thread.join()


def sender(pipe: Any, device: str, layers: int, blocks: int, pinned: bool) -> None:
    tensors = cache(device, layers, blocks, pinned)
    for index, tensor in enumerate(tensors):
        tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(index)))
    with start("prefill", tensors) as worker:
        pipe.send(worker.endpoint)
        while (asked := pipe.recv()) is not None:
            rid, busy = asked
            with hogged(busy):
                tx = worker.send(rid, slots(blocks, 1), prompt=blocks * TOKENS)
                tx.wait_released(60)
            pipe.send("sent")


def moved(
    devices: List[str], layers: int, blocks: int, rounds: int, pinned: bool
) -> Dict[str, Any]:
    """Median seconds, alone and with a busy thread on both sides; and the route."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    context.Process(target=sender, args=(theirs, devices[0], layers, blocks, pinned)).start()
    tensors = cache(devices[1], layers, blocks, pinned)
    result: Dict[str, Any] = {}
    with start("decode", tensors) as worker:
        endpoint, rid = pipe.recv(), 0
        for busy in (False, True):
            times = []
            for number in range(rounds + 2):  # the first ones connect and warm up
                rid += 1
                mine = slots(blocks, 2)
                pipe.send((rid, busy))
                with hogged(busy):
                    begin = time.perf_counter()
                    rx = worker.receive(rid, mine, prompt=blocks * TOKENS, source=endpoint)
                    outcome = rx.wait(120)
                    times.append(time.perf_counter() - begin)
                    rx.wait_released(60)
                pipe.recv()
            result["busy" if busy else "alone"] = statistics.median(times[2:])
        result["route"] = outcome.peers[0].route
    for index, tensor in enumerate(tensors):
        expected = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(index))
        expected = expected.to(torch.bfloat16)[:, slots(blocks, 1)]
        if not torch.equal(tensor[:, slots(blocks, 2)].cpu(), expected):
            raise SystemExit(f"layer {index} has wrong elements")
    pipe.send(None)
    return result


def torch_copies(devices: List[str], layers: int, blocks: int, rounds: int) -> Dict[str, float]:
    source, target = (cache(device, layers, blocks) for device in devices)

    def contiguous() -> None:
        for there, here in zip(target, source):
            there[:, :blocks].copy_(here[:, :blocks])

    def by_block() -> None:
        pairs = list(zip(slots(blocks, 2), slots(blocks, 1)))
        for there, here in zip(target, source):
            for to, of in pairs:
                there[:, to].copy_(here[:, of])

    result = {}
    for name, copy in (("contiguous", contiguous), ("a loop over blocks", by_block)):
        times = []
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            copy()
            if devices[1] != "cpu":
                torch.cuda.synchronize(devices[1])
            times.append(time.perf_counter() - begin)
        result[name] = statistics.median(times[1:])
    return result


def row(name: str, size: int, seconds: float, contiguous: float, *more: str) -> None:
    columns = [name, f"{seconds * 1000:.2f}", f"{size / seconds / 1e9:.1f}"]
    columns += [f"{contiguous / seconds:.2f}", *more, *[""] * (2 - len(more))]
    print("| " + " | ".join(columns) + " |", flush=True)


def run_case(given: argparse.Namespace, size: int) -> None:
    pinned, plain = given.case == "pinned host memory", given.case == "plain host memory"
    devices = ["cpu", "cpu"] if pinned or plain else given.devices
    found = moved(devices, given.layers, given.blocks, given.rounds, pinned)
    busy = f"{found['busy'] * 1000:.2f}"
    row(f"kvferry, {given.case}", size, found["alone"], given.contiguous, busy, found["route"])


def run_all(given: argparse.Namespace, size: int) -> None:
    """Each allocator in processes that have used no other."""
    own = torch_copies(given.devices, given.layers, given.blocks, given.rounds)
    print(
        f"{size >> 20} MiB, {given.devices[0]} to {given.devices[1]}, medians of {given.rounds}\n"
    )
    print("| | ms | GB/s | of torch's contiguous | ms beside busy threads | route |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, seconds in own.items():
        row(f"torch, {name}", size, seconds, own["contiguous"])
    for case, settings in CASES.items():
        if "cpu" in given.devices and case != "plain host memory":
            continue
        command = [sys.executable, *sys.argv, "--case", case]
        command += ["--contiguous", str(own["contiguous"])]
        environment = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": settings}
        if (status := subprocess.run(command, env=environment).returncode) != 0:
            print(f"| kvferry, {case} | failed with status {status} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", nargs=2, default=["cuda:0", "cuda:1"])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", choices=CASES, help="only this one, as a row")
    parser.add_argument("--contiguous", type=float, default=1.0, help="seconds to compare with")
    arguments = parser.parse_args()
    bytes_moved = arguments.layers * arguments.blocks * 2 * TOKENS * HEADS * DIM * 2
    (run_case if arguments.case else run_all)(arguments, bytes_moved)
