# SPDX-License-Identifier: Apache-2.0
"""Real SGLang engines on the CPU, whose own schedulers run the backend that the plugin brings."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

for needed in ("sglang.srt.plugins", "uvloop", "xgrammar", "dill"):
    pytest.importorskip(needed, exc_type=ImportError)
from vllm_fleet import make_model  # noqa: E402

HERE = Path(__file__).parent
TOKENS = 12


def prompts() -> List[List[int]]:
    draw = random.Random(11)
    lengths = [1, 5, 63, 64, 65, 100, 127, 128, 129, 200, 300, 500] * 2
    return [[draw.randrange(512) for _ in range(length)] for length in lengths]


PROMPTS = prompts()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Engine:
    def __init__(self, model: Path, **options: Any) -> None:
        options.setdefault("port", free_port())
        self._arguments = [str(model), json.dumps(options)]

    async def start(self) -> "Engine":
        paths = [str(HERE / "without_gpu"), os.environ.get("PYTHONPATH", "")]
        environment = {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1"}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "sglang_engine.py"),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
            limit=1 << 22,
        )
        await self._read()
        return self

    async def _read(self) -> Dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise ConnectionResetError("the engine has ended")
        return dict(json.loads(line))

    async def generate(self, inputs: List[List[int]], tokens: int, **more: Any) -> Any:
        params = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
        asked = {"input_ids": inputs, "sampling_params": params, **more}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        return await self._read()

    async def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # its schedulers are processes of their own
        await self.process.wait()


class Pair:
    def __init__(self, loop: asyncio.AbstractEventLoop, model: Path) -> None:
        self.loop, self.model, self._room = loop, model, 1 << 40

    async def start(self) -> None:
        self.bootstrap = free_port()
        split = dict(
            disaggregation_transfer_backend="kvferry",
            disaggregation_bootstrap_port=self.bootstrap,
            page_size=64,
            chunked_prefill_size=128,
        )
        self.alone, self.prefill, self.decode = await asyncio.gather(
            Engine(self.model).start(),
            Engine(self.model, disaggregation_mode="prefill", **split).start(),
            Engine(
                self.model,
                disaggregation_mode="decode",
                disaggregation_decode_retraction_backup="cpu_tensor",  # the other pins memory
                **split,
            ).start(),
        )

    async def ask(self, inputs: List[List[int]]) -> Any:
        """As a router does it: both at once, by a number that it draws."""
        rooms = [self._room + index for index in range(len(inputs))]
        self._room += len(inputs)
        where: Dict[str, Any] = dict(
            bootstrap_host=["127.0.0.1"] * len(inputs),
            bootstrap_port=[self.bootstrap] * len(inputs),
            bootstrap_room=rooms,
        )
        _, answer = await asyncio.gather(
            self.prefill.generate(inputs, 1, **where),
            self.decode.generate(inputs, TOKENS, **where),
        )
        return answer

    async def stop(self) -> None:
        await asyncio.gather(*(e.end() for e in (self.alone, self.prefill, self.decode)))

    def run(self, what: Any, seconds: float = 120) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, seconds))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loop = asyncio.new_event_loop()
    result = Pair(loop, make_model(tmp_path_factory.mktemp("model")))
    result.run(result.start(), 500)
    yield result
    result.run(result.stop())


def test_decode_says_what_one_engine_says(pair: Pair) -> None:
    async def go() -> None:
        expected = (await pair.alone.generate(PROMPTS, TOKENS))["tokens"]
        for _ in range(2):  # the second time both have prefixes
            answer = await pair.ask(PROMPTS)
            assert answer.get("tokens") == expected, answer

    pair.run(go())
