# SPDX-License-Identifier: Apache-2.0
"""Two servers of vLLM behind the example's proxy, over HTTP as a deployment has them."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from pathlib import Path
from typing import Any, AsyncIterator, Dict, List

import pytest

pytest.importorskip("vllm")
from aiohttp import ClientSession, ClientTimeout  # noqa: E402
from vllm_fleet import CONNECTOR, make_model  # noqa: E402

PROXY = Path(__file__).parents[4] / "tools/python/examples/vllm_proxy.py"
CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}
TOKENS, WORDS = 12, 512


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def add_tokenizer(folder: Path) -> None:
    """Each word is a token: w0 to w511."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)


def prompts() -> List[str]:
    draw = random.Random(9)
    lengths = [1, 31, 32, 33, 64, 100, 257, 500, 900, 640] * 2
    return [" ".join(f"w{draw.randrange(WORDS)}" for _ in range(length)) for length in lengths]


PROMPTS = prompts()


class Program:
    """A server with its children. It is up when it has said so."""

    SAYS = "Running on"

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    async def up(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **CPU},
            start_new_session=True,
            limit=1 << 22,
        )
        assert self.process.stdout is not None
        said: List[str] = []
        while line := (await self.process.stdout.readline()).decode(errors="replace"):
            said.append(line)
            if self.SAYS in line:
                asyncio.ensure_future(self.process.stdout.read())  # so that it never waits for us
                return
        raise RuntimeError("".join(said[-40:]))

    async def end(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        await asyncio.wait_for(self.process.wait(), 120)


class Server(Program):
    SAYS = "Application startup complete"

    def __init__(self, model: Path, role: str, **settings: Any) -> None:
        self.port = free_port()
        # As `vllm serve` does it, whose command wants a package of the name vllm; here it is vllm-cpu.
        arguments = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
        arguments += (
            f"--port {self.port} --host 127.0.0.1 --served-model-name m --dtype float32".split()
        )
        arguments += "--max-model-len 2048 --block-size 32 --enforce-eager".split()
        arguments += "--num-gpu-blocks-override 512 --max-num-batched-tokens 256".split()
        connector = {**CONNECTOR, "kv_role": role, "kv_load_failure_policy": "recompute"}
        connector["kv_connector_extra_config"] = settings
        arguments += ["--kv-transfer-config", json.dumps(connector)]
        super().__init__(*arguments)


async def ask(http: ClientSession, port: int, prompt: str, **more: Any) -> str:
    body: Dict[str, Any] = {"model": "m", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    body.update(ignore_eos=True, **more)
    async with http.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["choices"][0]["text"])


async def stream(http: ClientSession, port: int, prompt: str) -> AsyncIterator[str]:
    body: Dict[str, Any] = {"model": "m", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    body.update(ignore_eos=True, stream=True)
    async with http.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as answer:
        async for line in answer.content:
            text = line.decode().strip()
            if text.startswith("data: ") and text != "data: [DONE]":
                yield json.loads(text[len("data: ") :])["choices"][0]["text"]


class Deployment:
    def __init__(self, loop: asyncio.AbstractEventLoop, model: Path) -> None:
        self.loop, self.model = loop, model
        self.kvferry_port = free_port()
        self._programs: List[Program] = []

    async def _started(self, program: Any) -> Any:
        self._programs.append(program)
        await program.up()
        return program

    async def start(self) -> None:
        self.http = ClientSession(timeout=ClientTimeout(total=600))
        settings = {"layer_wise": True, "lease": 20, "load_deadline": 10, "transfer_deadline": 5}
        self.prefill = Server(self.model, "kv_producer", port=self.kvferry_port, **settings)
        self.decode = Server(self.model, "kv_consumer", **settings)
        await asyncio.gather(self._started(self.prefill), self._started(self.decode))
        # What one server says: without a proxy nothing is moved.
        answers = (ask(self.http, self.prefill.port, prompt) for prompt in PROMPTS)
        self.expected = list(await asyncio.gather(*answers))
        # In turn, as vLLM's own proxies do it; and both at once, for layers that travel one by one.
        self.ports = {"in turn": free_port(), "at once": free_port()}
        for proxy in [
            Program(
                str(PROXY),
                str(port),
                f"http://127.0.0.1:{self.prefill.port}",
                f"http://127.0.0.1:{self.decode.port}",
                *([f"127.0.0.1:{self.kvferry_port}"] if how == "at once" else []),
            )
            for how, port in self.ports.items()
        ]:
            await self._started(proxy)

    async def loaded_tokens(self) -> float:
        """That the decode engine did not compute."""
        async with self.http.get(f"http://127.0.0.1:{self.decode.port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith("vllm:external_prefix_cache_hits_total")
        )

    async def stop(self) -> None:
        await self.http.close()
        for program in self._programs:
            await program.end(signal.SIGKILL)

    def run(self, what: Any, seconds: float = 600) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, seconds))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loop = asyncio.new_event_loop()
    model = make_model(tmp_path_factory.mktemp("model"))
    add_tokenizer(model)
    result = Deployment(loop, model)
    try:
        result.run(result.start(), 1200)
        yield result
    finally:
        result.run(result.stop())


@pytest.mark.parametrize("how", ["in turn", "at once"])
def test_twenty_prompts_at_once_answer_as_one_server_does(deployment: Deployment, how: str) -> None:
    async def go() -> None:
        before = await deployment.loaded_tokens()
        port = deployment.ports[how]
        answers = await asyncio.gather(*(ask(deployment.http, port, p) for p in PROMPTS))
        assert list(answers) == deployment.expected
        # The prefill server has computed them, not the decode server.
        assert await deployment.loaded_tokens() - before > 0 or how == "at once"

    deployment.run(go())


def test_an_answer_that_streams(deployment: Deployment) -> None:
    async def go() -> None:
        port = deployment.ports["in turn"]
        parts = [part async for part in stream(deployment.http, port, PROMPTS[7])]
        assert len(parts) > 1 and "".join(parts) == deployment.expected[7]

    deployment.run(go())


@pytest.mark.parametrize("how", ["in turn", "at once"])
def test_the_prefill_server_is_killed_and_another_takes_its_place(
    deployment: Deployment, how: str
) -> None:
    async def go() -> None:
        port = deployment.ports[how]
        asked = [asyncio.ensure_future(ask(deployment.http, port, prompt)) for prompt in PROMPTS]
        await asked[0]  # some are under way
        await deployment.prefill.end(signal.SIGKILL)
        assert list(await asyncio.gather(*asked)) == deployment.expected  # computed by decode
        await deployment.prefill.up()
        answers = await asyncio.gather(*(ask(deployment.http, port, p) for p in PROMPTS[:8]))
        assert list(answers) == deployment.expected[:8]

    deployment.run(go(), 1200)
