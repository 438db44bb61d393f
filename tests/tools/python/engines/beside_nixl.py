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
from typing import Any, Dict, List, NamedTuple

from vllm_fleet import CONNECTOR, Engine, asked_at_once, make_model

NIXL = {"kv_connector": "NixlConnector", "kv_connector_module_path": None}
LAYER_WISE = {**CONNECTOR, "kv_connector_extra_config": {"layer_wise": True}}
SHAPE = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=8)
SHAPE |= dict(num_attention_heads=8, num_key_value_heads=8, head_dim=64)
COUNT, LENGTH, PATIENCE = 20, 900, 60
ASK = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None}
ASK |= {"remote_block_ids": None, "remote_host": None, "remote_port": None}


def cpu_seconds(engine: Engine) -> float:
    fields = Path(f"/proc/{engine.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Computed(NamedTuple):
    name: str
    prompt: List[int]
    params: Any


class Pair:
    ports = iter(range(5600, 5700))

    def __init__(self, model: Path, connector: Dict[str, Any]) -> None:
        recompute = {"kv_load_failure_policy": "recompute"}
        self._options = dict(connector={**connector, **recompute}, num_gpu_blocks_override=1024)
        self._model, self._number = model, 0
        self.at_once, self.endpoint = connector is LAYER_WISE, ""

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

    def _name(self) -> str:
        self._number += 1
        return f"request-{self._number}."

    async def computed(self, prompt: List[int]) -> Computed:
        name = self._name()
        answer = await self.prefill.generate(name, prompt, 1, dict(ASK))
        return Computed(name, prompt, answer["kv_transfer_params"])

    async def first_token(self, computed: Computed) -> Dict[str, float]:
        begin = time.monotonic()
        answer = await self.decode.generate(computed.name, computed.prompt, 1, computed.params)
        return {"first": time.monotonic() - begin, "moved": answer["transfer_seconds"]}

    async def whole(self, prompt: List[int]) -> Dict[str, float]:
        """One request, its prompt included."""
        begin = time.monotonic()
        if self.at_once:
            await asked_at_once(self.prefill, self.decode, self.endpoint, self._name(), prompt, 1)
            return {"whole": time.monotonic() - begin}
        times = await self.first_token(await self.computed(prompt))
        return {**times, "whole": time.monotonic() - begin}

    async def twenty(self, prompts: List[List[int]]) -> Dict[str, float]:
        """All at once, once they are computed: the last first token, and CPU of both engines."""
        ready = [await self.computed(prompt) for prompt in prompts]
        before = cpu_seconds(self.prefill) + cpu_seconds(self.decode)
        times = await asyncio.gather(*(self.first_token(one) for one in ready))
        used = cpu_seconds(self.prefill) + cpu_seconds(self.decode) - before
        return {"last of 20": max(one["first"] for one in times), "cpu of 20": used}

    async def without_prefill(self, prompt: List[int], number: int) -> str:
        """What decode does for a request whose prefill engine got a signal."""
        ready = await self.computed(prompt)
        self.prefill.signal(number)
        asked = asyncio.ensure_future(self.first_token(ready))
        done, _ = await asyncio.wait([asked], timeout=PATIENCE)
        result = f"{asked.result()['first']:.1f} s" if done else f"none in {PATIENCE} s"
        if number == signal.SIGSTOP:
            self.prefill.signal(signal.SIGCONT)
        if not done:
            self.decode.abort(ready.name)
        try:
            state = await asyncio.wait_for(self.decode.state("idle"), PATIENCE)
            return f"{result}; {self.free - state['free_blocks']} blocks lost"
        except asyncio.TimeoutError:
            return f"{result}; not idle after {PATIENCE} s more"


ROWS = {
    "moved": "one request: its blocks are filled after",
    "first": "one request: first token of decode",
    "whole": "one request, its prompt included: first token",
    "last of 20": f"{COUNT} at once: last first token",
    "cpu of 20": f"CPU of both engines for {COUNT}",
}


async def run(rounds: int) -> None:
    draw = random.Random(1)
    prompts = [[draw.randrange(512) for _ in range(LENGTH)] for _ in range(COUNT)]
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder), **SHAPE)
        pairs: Dict[str, Pair] = {}
        for name, connector in (
            ("kvferry", CONNECTOR),
            ("layer by layer", LAYER_WISE),
            ("nixl", NIXL),
        ):
            print(f"{name}: two engines start", file=sys.stderr, flush=True)
            pairs[name] = await Pair(model, connector).start()
        layers = pairs["layer by layer"]
        first = await layers.computed(prompts[0])
        layers.endpoint = first.params["kvferry_endpoint"]
        await layers.first_token(first)
        rows: Dict[str, Dict[str, List[float]]] = {what: {} for what in ROWS}
        for number in range(rounds + 1):
            for name, pair in pairs.items():  # neighbours in time
                told = [await pair.whole(prompts[0]) for _ in range(3)]
                if not pair.at_once:
                    told.append(await pair.twenty(prompts))
                if number > 0:  # the first connects
                    for what, value in (item for one in told for item in one.items()):
                        rows[what].setdefault(name, []).append(value)
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        told_of = {"frozen": signal.SIGSTOP, "killed": signal.SIGKILL}
        answers: Dict[str, Dict[str, str]] = {what: {} for what in told_of}
        for name, pair in pairs.items():
            if not pair.at_once:
                for index, (what, number) in enumerate(told_of.items()):
                    print(f"{name}: its prefill engine is {what}", file=sys.stderr, flush=True)
                    answers[what][name] = await pair.without_prefill(prompts[index], number)
            await pair.decode.kill()
            if pair.at_once:
                await pair.prefill.kill()
    print(f"| {COUNT} prompts of {LENGTH} tokens, {LENGTH * 32 // 1024} MiB each; medians", end="")
    print("".join(f" | {name}" for name in pairs), "|")
    print("|---" * (len(pairs) + 1) + "|")
    for what, values in rows.items():
        cells = (f"{statistics.median(values[n]):.3f} s" if n in values else "" for n in pairs)
        print(f"| {ROWS[what]} | " + " | ".join(cells) + " |")
    for what, texts in answers.items():
        cells = (texts.get(name, "") for name in pairs)
        print(f"| prefill {what}: decode answers after | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
