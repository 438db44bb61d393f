# SPDX-License-Identifier: Apache-2.0
"""Memory as torch allocates it, moved between two processes on one GPU, every byte compared.

torch_memory.py: the default allocator, expandable segments, pinned tensors in host memory, and graph captures
that go on meanwhile. Prints the route and the times of each; status 77 without torch or a device.
"""

import os
import subprocess
import sys
import time

try:
    import torch
except ImportError:
    torch = None

BLOCKS, TOKENS, HEADS, DIM, LAYERS = 256, 16, 8, 128, 8
PROMPT = BLOCKS * TOKENS
CASES = ("default", "expandable", "pinned", "capture")


def pool(kind, seed):
    """One tensor for each layer, as an engine has them; `seed` None: zeros."""
    import kvferry

    shape = (2, BLOCKS, TOKENS, HEADS, DIM)
    caches = []
    for layer in range(LAYERS):
        if kind == "pinned":
            cache = torch.zeros(shape, dtype=torch.bfloat16).pin_memory()
        else:
            cache = torch.zeros(shape, dtype=torch.bfloat16, device="cuda")
        if seed is not None:
            cache.copy_(content(layer, seed, cache.device))
        caches.append(cache)
    place = kvferry.Parallelism([LAYERS])
    pages = kvferry.Pages.from_tensors(
        [
            kvferry.Tensor(cache, "kv block token head dim", layers=layer, heads=HEADS)
            for layer, cache in enumerate(caches)
        ],
        place,
    )
    return caches, pages


def content(layer, seed, device):
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    values = torch.randint(0, 255, (2, BLOCKS, TOKENS, HEADS, DIM), generator=generator)
    return values.to(torch.bfloat16).to(device)


def context(kind):
    """Sends as many requests as its standard input has lines."""
    import kvferry

    caches, pages = pool(kind, 1)
    devices = () if pages.on_cuda else (0,)
    with kvferry.Worker("context", pages, devices=devices) as worker:
        print(worker.endpoint, flush=True)
        for line in sys.stdin:
            session = worker.send(int(line), list(range(BLOCKS)), prompt=PROMPT)
            session.wait_released(30)
    del caches


def capture_graph():
    """As an engine captures its decode step; raises when somebody's call has ended the capture."""
    graph = torch.cuda.CUDAGraph()
    x = torch.ones(1024, device="cuda")
    with torch.cuda.graph(graph):
        for _ in range(2000):
            x = x * 1.0001
    graph.replay()
    torch.cuda.synchronize()


def run(case):
    import kvferry

    kind = case if case == "pinned" else "device"
    environment = dict(os.environ)
    environment["PYTORCH_CUDA_ALLOC_CONF"] = (
        "expandable_segments:True" if case == "expandable" else ""
    )
    child = subprocess.Popen(
        [sys.executable, __file__, "--context", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    endpoint = child.stdout.readline().strip()
    caches, pages = pool("device", None)
    routes, times = set(), []
    with kvferry.Worker("generation", pages) as worker:
        for rid in range(1, 9):
            for cache in caches:
                cache.zero_()
            began = time.perf_counter()
            # The kernels that clear the pool are still queued: the request waits for them.
            session = worker.receive(rid, list(range(BLOCKS)), prompt=PROMPT, source=endpoint)
            child.stdin.write(f"{rid}\n")
            child.stdin.flush()
            if case == "capture":
                capture_graph()
            outcome = session.wait(30)
            session.wait_released(30)
            times.append(time.perf_counter() - began)
            routes.update(peer.route for peer in outcome.peers)
            for layer, cache in enumerate(caches):
                if not torch.equal(cache, content(layer, 1, "cuda")):
                    raise AssertionError(f"{case}: layer {layer} of request {rid} differs")
    child.stdin.close()
    if child.wait(30) != 0:
        raise AssertionError(f"{case}: the context process failed")
    bytes_moved = sum(cache.numel() * cache.element_size() for cache in caches)
    print(
        f"{case:10} {bytes_moved >> 20} MiB  first {1e3 * times[0]:.1f} ms, "
        f"best {1e3 * min(times):.2f} ms = {bytes_moved / min(times) / 1e9:.0f} GB/s  {sorted(routes)}",
        flush=True,
    )
    return routes


def main():
    if torch is None or not torch.cuda.is_available():
        print("skipped: no torch, or no device")
        return 77
    for case in sys.argv[1:] or CASES:
        if case == "expandable" and "expandable" not in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""):
            environment = dict(os.environ, PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True")
            if subprocess.run([sys.executable, __file__, case], env=environment).returncode != 0:
                return 1
            continue
        for route in run(case):
            if not route.startswith("mapped"):
                raise AssertionError(f"{case}: {route}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--context"]:
        context(sys.argv[2])
    else:
        sys.exit(main())
