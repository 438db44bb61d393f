# SPDX-License-Identifier: Apache-2.0
"""What transfers cost a prefill that computes on the same GPU, by multiprocessors that they may take.

    python beside_prefill.py [--devices cuda:0 cuda:1] [--multiprocessors 8 16 32 96] [--seconds 3]

Prefill is a loop of matrix products in the sending process; transfers of 512 MiB follow each other
without a pause. A table: rates of both alone, of both together, and the ratios.
"""

import argparse
import multiprocessing
import threading
import time
from typing import Any, List

import torch
from two_gpus import TOKENS, cache, slots

import kvferry

LAYERS, BLOCKS, SIDE = 32, 256, 8192


def start(name: str, tensors: List[torch.Tensor], multiprocessors: int) -> kvferry.Worker:
    described = [
        kvferry.Tensor(each, "kv block token head dim", layer, heads=each.shape[3])
        for layer, each in enumerate(tensors)
    ]
    pages = kvferry.Pages.from_tensors(described, kvferry.Parallelism([len(tensors)]))
    return kvferry.Worker(name, pages, multiprocessors=multiprocessors)


def products(a: torch.Tensor, seconds: float) -> float:
    """TFLOP/s of products of `a` with itself."""
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)
    torch.cuda.synchronize(a.device)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for _ in range(20):
            torch.mm(a, a, out=out)
        torch.cuda.synchronize(a.device)
        count += 20
    return 2e-12 * SIDE**3 * count / (time.perf_counter() - begin)


def sender(pipe: Any, device: str, multiprocessors: int) -> None:
    """Answers ("compute", seconds) with a rate, while a thread sends whatever is asked for."""
    a = torch.randn(SIDE, SIDE, dtype=torch.bfloat16, device=device)
    torch.cuda.set_device(device)
    ready = torch.cuda.Event()
    ready.record()
    with start("prefill", cache(device, LAYERS, BLOCKS), multiprocessors) as worker:
        pipe.send(worker.endpoint)
        wanted, over = slots(BLOCKS, 1), threading.Event()

        def serve() -> None:
            rid, sent = 0, []
            while not over.is_set():
                rid += 1
                sent.append(worker.send(rid, wanted, prompt=BLOCKS * TOKENS, after=ready))
                if len(sent) > 8:
                    sent.pop(0).wait_released(60)

        thread = threading.Thread(target=serve)
        while (asked := pipe.recv()) is not None:
            if asked == "serve":
                thread.start()
            else:
                pipe.send(products(a, asked))
        over.set()


def transfers(worker: kvferry.Worker, source: str, first: int, seconds: float) -> Any:
    """GB/s of transfers one after the other, two under way; and the next rid."""
    mine, rid, begin, under_way = slots(BLOCKS, 2), first, time.perf_counter(), []
    total, each = 0, LAYERS * 2 * BLOCKS * TOKENS * 8 * 128 * 2
    while time.perf_counter() - begin < seconds:
        under_way.append(worker.receive(rid, mine, prompt=BLOCKS * TOKENS, source=source))
        rid += 1
        if len(under_way) == 2:
            under_way.pop(0).wait(60)
            total += each
    rate = total / (time.perf_counter() - begin) / 1e9
    for rx in under_way:
        rx.wait_released(60)
    return rate, rid


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--devices", nargs=2, default=["cuda:0", "cuda:1"])
    flags.add_argument("--multiprocessors", nargs="+", type=int, default=[8, 16, 32, 96])
    flags.add_argument("--seconds", type=float, default=3)
    options = flags.parse_args()
    context = multiprocessing.get_context("spawn")
    print("multiprocessors  prefill TFLOP/s         transfers GB/s")
    print("                 alone  beside  ratio    alone  beside  ratio", flush=True)
    for count in options.multiprocessors:
        pipe, theirs = context.Pipe()
        child = context.Process(target=sender, args=(theirs, options.devices[0], count))
        child.start()
        with start("decode", cache(options.devices[1], LAYERS, BLOCKS), count) as worker:
            source = pipe.recv()
            pipe.send(options.seconds)
            computes = pipe.recv()
            pipe.send("serve")
            _, rid = transfers(worker, source, 1, 0.5)
            moves, rid = transfers(worker, source, rid, options.seconds)
            pipe.send(options.seconds)
            moves_beside, rid = transfers(worker, source, rid, options.seconds)
            computes_beside = pipe.recv()
        print(
            f"{count:15}  {computes:5.0f}  {computes_beside:6.0f}  {computes_beside / computes:5.2f}"
            f"    {moves:5.0f}  {moves_beside:6.0f}  {moves_beside / moves:5.2f}",
            flush=True,
        )
        pipe.send(None)
        child.kill()


if __name__ == "__main__":
    main()
