# SPDX-License-Identifier: Apache-2.0
"""vLLM with kvferry beside vLLM with its own NixlConnector, in one run: a table. Needs `nixl` beside vllm.

python beside_nixl.py [rounds]
"""

import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from vllm_fleet import CONNECTOR, Engine, make_model

NIXL = {"kv_connector": "NixlConnector", "kv_connector_module_path": None}
SHAPE = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=8)
SHAPE |= dict(num_attention_heads=8, num_key_value_heads=8, head_dim=64)
COUNT, LENGTH, PATIENCE = 20, 900, 60
ASK = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None}
ASK |= {"remote_block_ids": None, "remote_host": None, "remote_port": None}


def cpu_seconds(engine: Engine) -> float:
    fields = Path(f"/proc/{engine.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Pair:
    ports = iter(range(5600, 5700))

    def __init__(self, model: Path, connector: Dict[str, Any]) -> None:
        recompute = {"kv_load_failure_policy": "recompute"}
        self._options = dict(connector={**connector, **recompute}, num_gpu_blocks_override=1024)
        self._model, self._number = model, 0

    def _engine(self, role: str) -> Engine:
        engine = Engine(self._model, role, enable_prefix_caching=False, **self._options)
        engine.environment = {"VLLM_NIXL_SIDE_CHANNEL_PORT": str(next(self.ports))}
        return engine

    async def start(self) -> "Pair":
        self.prefill, self.decode = await asyncio.gather(
            self._engine("kv_producer").start(), self._engine("kv_consumer").start()
        )
        self.free = (await self.decode.state())["free_blocks"]
        return self

    async def restart_prefill(self) -> None:
        self.prefill = await self._engine("kv_producer").start()

    async def computed(self, prompt: List[int]) -> Tuple[str, List[int], Any]:
        self._number += 1
        name = f"request-{self._number}"
        answer = await self.prefill.generate(name, prompt, 1, dict(ASK))
        return name, prompt, answer["kv_transfer_params"]

    async def first_token(self, computed: Tuple[str, List[int], Any]) -> float:
        begin = time.monotonic()
        await self.decode.generate(computed[0], computed[1], 1, computed[2])
        return time.monotonic() - begin

    async def round(self, prompts: List[List[int]]) -> Tuple[List[float], float]:
        """Seconds from asking decode to its first token, all at once; CPU seconds of both engines."""
        ready = [await self.computed(prompt) for prompt in prompts]
        before = cpu_seconds(self.prefill) + cpu_seconds(self.decode)
        times = await asyncio.gather(*(self.first_token(one) for one in ready))
        return times, cpu_seconds(self.prefill) + cpu_seconds(self.decode) - before

    async def without_prefill(self, prompt: List[int], number: int) -> str:
        """What decode does for a request whose prefill engine got a signal."""
        ready = await self.computed(prompt)
        self.prefill.signal(number)
        asked = asyncio.ensure_future(self.first_token(ready))
        done, _ = await asyncio.wait([asked], timeout=PATIENCE)
        result = f"{asked.result():.1f} s" if done else f"none in {PATIENCE} s"
        if number == signal.SIGSTOP:
            self.prefill.signal(signal.SIGCONT)
        if not done:
            self.decode.abort(ready[0])
        try:
            state = await asyncio.wait_for(self.decode.state("idle"), PATIENCE)
            return f"{result}; {self.free - state['free_blocks']} blocks lost"
        except asyncio.TimeoutError:
            return f"{result}; not idle after {PATIENCE} s more"


async def run(rounds: int) -> None:
    draw = random.Random(1)
    prompts = [[draw.randrange(512) for _ in range(LENGTH)] for _ in range(COUNT)]
    rows: Dict[str, Dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder), **SHAPE)
        pairs = {"kvferry": await Pair(model, CONNECTOR).start()}
        pairs["nixl"] = await Pair(model, NIXL).start()
        times: Dict[str, List[float]] = {name: [] for name in pairs}
        cpu: Dict[str, List[float]] = {name: [] for name in pairs}
        alone: Dict[str, List[float]] = {name: [] for name in pairs}
        for number in range(rounds + 1):
            for name, pair in pairs.items():  # neighbours in time
                at_once, used = await pair.round(prompts)
                single, _ = await pair.round(prompts[:1])
                if number > 0:  # the first connects
                    times[name] += at_once
                    cpu[name].append(used)
                    alone[name] += single
                print(f"round {number} {name}: {max(at_once):.3f} s", file=sys.stderr, flush=True)
        for name, pair in pairs.items():
            print(f"{name}: frozen and killed prefill", file=sys.stderr, flush=True)
            frozen = await pair.without_prefill(prompts[0], signal.SIGSTOP)
            killed = await pair.without_prefill(prompts[1], signal.SIGKILL)
            rows[name] = {
                "one request: first token of decode, median": f"{statistics.median(alone[name]):.3f} s",
                f"{COUNT} at once: first token, median": f"{statistics.median(times[name]):.3f} s",
                f"{COUNT} at once: last first token, median": f"{statistics.median(max(times[name][i : i + COUNT]) for i in range(0, len(times[name]), COUNT)):.3f} s",
                f"CPU of both engines for {COUNT}, median": f"{statistics.median(cpu[name]):.2f} s",
                "prefill frozen: decode answers after": frozen,
                "prefill killed: decode answers after": killed,
            }
            await pair.decode.kill()
    print(
        f"| {COUNT} prompts of {LENGTH} tokens, {LENGTH * 32 // 1024} MiB each | "
        + " | ".join(rows)
        + " |"
    )
    print("|---" * (len(rows) + 1) + "|")
    for what in next(iter(rows.values())):
        print(f"| {what} | " + " | ".join(row[what] for row in rows.values()) + " |")


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
