# SPDX-License-Identifier: Apache-2.0
"""Engines as processes, and what stands before them: a proxy as vLLM's own example, without HTTP."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

CONNECTOR = {"kv_connector": "KvferryConnector", "kv_connector_module_path": "kvferry.vllm"}


class Engine:
    """A vLLM process. `role`: "kv_producer", "kv_consumer", or "" without a connector."""

    environment: Dict[str, str] = {}

    def __init__(self, model: Path, role: str = "", connector: Any = None, **options: Any) -> None:
        if role:
            options["kv_transfer_config"] = {**CONNECTOR, **(connector or {}), "kv_role": role}
        self._arguments = [str(model), json.dumps(options)]
        self._answers: Dict[str, "asyncio.Future[Dict[str, Any]]"] = {}
        self._states: List["asyncio.Future[Dict[str, Any]]"] = []

    async def start(self) -> "Engine":
        program = str(Path(__file__).with_name("vllm_engine.py"))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            program,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
            env={**os.environ, "OMP_NUM_THREADS": "1", **self.environment},
        )
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the engine did not start")
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            if "id" in answer:
                future = self._answers.pop(answer["id"], None)
                if future is not None and not future.done():
                    future.set_result(answer)
            else:
                self._states.pop(0).set_result(answer)
        for future in [*self._answers.values(), *self._states]:
            if not future.done():
                future.set_exception(ConnectionResetError("the engine has ended"))

    def _write(self, call: Dict[str, Any]) -> None:
        assert self.process.stdin is not None
        if self._reader.done():
            raise ConnectionResetError("the engine has ended")
        self.process.stdin.write(json.dumps(call).encode() + b"\n")

    async def generate(
        self, name: str, prompt: List[int], max_tokens: int, params: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        self._write(
            {"id": name, "prompt": prompt, "max_tokens": max_tokens, "kv_transfer_params": params}
        )
        future = asyncio.get_running_loop().create_future()
        self._answers[name] = future
        return await future

    def abort(self, name: str) -> None:
        self._write({"abort": name})

    async def state(self, when: str = "state") -> Dict[str, Any]:
        """Free blocks and live requests: now, or "idle": once no request is left."""
        self._write({when: True})
        future = asyncio.get_running_loop().create_future()
        self._states.append(future)
        return await future

    async def steps(self, count: int) -> None:
        """Lets the engine do something about `count` times."""
        for _ in range(count):
            await self.state()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.process.wait()
        await self._reader

    async def stop(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.process.wait()


async def disaggregated(
    prefill: Engine, decode: Engine, name: str, prompt: List[int], max_tokens: int
) -> Dict[str, Any]:
    """One request, as a proxy handles it."""
    first = await prefill.generate(name, prompt, 1, {"do_remote_decode": True})
    params = first["kv_transfer_params"]
    if params is not None:  # else its pages were taken away
        # So that the decode engine says what it did not compute.
        del params["remote_prefill_cached_tokens"]
    return await decode.generate(name, prompt, max_tokens, params)


async def asked_at_once(
    prefill: Engine, decode: Engine, endpoint: str, name: str, prompt: List[int], max_tokens: int
) -> Dict[str, Any]:
    """As a proxy does that knows where the prefill engine is: decode waits for layers while they are computed."""
    transfer = {"transfer_id": name}
    first = prefill.generate(name, prompt, 1, {"do_remote_decode": True, **transfer})
    source = {"do_remote_prefill": True, "kvferry_endpoint": endpoint, **transfer}
    _, answer = await asyncio.gather(first, decode.generate(name, prompt, max_tokens, source))
    return answer


def make_model(folder: Path, **shape: int) -> Path:
    """A small Llama with random weights, large enough that every token of a prompt decides what follows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config: Dict[str, Any] = dict(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.15,
    )
    LlamaForCausalLM(LlamaConfig(**{**config, **shape})).save_pretrained(folder)
    return folder
