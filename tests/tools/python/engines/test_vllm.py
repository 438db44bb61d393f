# SPDX-License-Identifier: Apache-2.0
"""Real vLLM engines, prefill and decode, as processes. What must come out is said by one engine alone.

KVFERRY_VLLM_MODEL names a folder with another model than the small random one.
"""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

pytest.importorskip("vllm")
from vllm_fleet import Engine, disaggregated, make_model  # noqa: E402

TOKENS = 16
RECOMPUTE = {
    "kv_load_failure_policy": "recompute",
    "kv_connector_extra_config": {"lease": 4, "load_deadline": 3, "transfer_deadline": 3},
}


def prompts(count: int, seed: int) -> List[List[int]]:
    """Around the edges of blocks (of 32 tokens), and longer."""
    draw = random.Random(seed)
    lengths = [1, 5, 31, 32, 33, 63, 64, 100, 257, 500, 900]
    return [[draw.randrange(512) for _ in range(draw.choice(lengths))] for _ in range(count)]


PROMPTS = prompts(20, 1)


EXAMPLE = Path(__file__).parents[4] / "tools/python/examples/vllm_engines.py"


class Fleet:
    """A pair of engines, and the tokens that one engine alone has for PROMPTS."""

    def __init__(self, loop: asyncio.AbstractEventLoop, model: Any) -> None:
        self.loop, self.model, self._number = loop, model, 0
        self._whole = asyncio.Event()
        self._whole.set()

    async def start(self) -> None:
        alone = await Engine(self.model).start()
        self.expected = [
            (await alone.generate(f"alone-{index}", prompt, TOKENS))["tokens"]
            for index, prompt in enumerate(PROMPTS)
        ]
        await alone.stop()
        await asyncio.gather(self.start_prefill(), self.start_decode())
        self.free = [
            (await engine.state())["free_blocks"] for engine in (self.prefill, self.decode)
        ]

    async def start_prefill(self) -> None:
        self.prefill = await Engine(self.model, "kv_producer", RECOMPUTE).start()

    async def start_decode(self) -> None:
        self.decode = await Engine(self.model, "kv_consumer", RECOMPUTE).start()

    async def replace(self, role: str) -> None:
        """Kills an engine and starts another in its place."""
        self._whole.clear()
        await getattr(self, role).kill()
        await getattr(self, f"start_{role}")()
        self._whole.set()

    async def alive(self) -> None:
        await self._whole.wait()

    async def stop(self) -> List[int]:
        return await asyncio.gather(self.prefill.stop(), self.decode.stop())

    def name(self) -> str:
        self._number += 1
        return f"request-{self._number}"

    async def ask(self, index: int) -> Dict[str, Any]:
        return await disaggregated(self.prefill, self.decode, self.name(), PROMPTS[index], TOKENS)

    async def quiet(self) -> None:
        """All requests have ended, and every block is back."""
        for engine, free in zip((self.prefill, self.decode), self.free):
            assert (await asyncio.wait_for(engine.state("idle"), 20))["free_blocks"] == free

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, 60))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loop = asyncio.new_event_loop()
    named = os.environ.get("KVFERRY_VLLM_MODEL")
    result = Fleet(loop, named or make_model(tmp_path_factory.mktemp("model")))
    loop.run_until_complete(asyncio.wait_for(result.start(), 300))
    yield result
    assert result.run(result.stop()) == [0, 0]


def test_twenty_at_once_decode_as_one_engine_does(fleet: Fleet) -> None:
    async def go() -> None:
        for _ in range(2):  # the second time both have the full blocks of most prompts already
            answers = await asyncio.gather(*(fleet.ask(index) for index in range(len(PROMPTS))))
            assert [answer["tokens"] for answer in answers] == fleet.expected
            # Every decode engine computes the last token of a prompt for itself, and no other.
            for prompt, answer in zip(PROMPTS, answers):
                assert answer["cached"] >= len(prompt) - 1
        await fleet.quiet()

    fleet.run(go())


def test_given_up_in_every_phase(fleet: Fleet) -> None:
    async def give_up(index: int, phase: int, steps: int) -> Any:
        name, prompt = fleet.name(), PROMPTS[index]
        computed = asyncio.ensure_future(
            fleet.prefill.generate(name, prompt, 1, {"do_remote_decode": True})
        )
        if phase == 0:  # while it is computed
            await fleet.prefill.steps(steps)
            fleet.prefill.abort(name)
        params = (await computed)["kv_transfer_params"]
        if params is None:
            return phase, "abort"
        decoded = asyncio.ensure_future(fleet.decode.generate(name, prompt, TOKENS, params))
        if phase > 0:  # before it is scheduled, while it is loaded, while it decodes
            await fleet.decode.steps(0 if phase == 1 else steps)
            fleet.decode.abort(name)
        return phase, (await decoded)["reason"]

    async def go() -> None:
        draw = random.Random(2)
        kept = [fleet.ask(index) for index in range(len(PROMPTS))]
        given_up = [  # the first ones at once, which is certainly before it is too late
            give_up(draw.randrange(len(PROMPTS)), number % 3, draw.randrange(30) * (number >= 3))
            for number in range(40)
        ]
        answers = await asyncio.gather(*kept, *given_up)
        assert [answer["tokens"] for answer in answers[: len(kept)]] == fleet.expected
        assert {(phase, "abort") for phase in range(3)} <= set(answers[len(kept) :])
        await fleet.quiet()

    fleet.run(go())


def test_a_prompt_that_nobody_fetches_is_kept_for_its_lease_only(fleet: Fleet) -> None:
    async def go() -> None:
        await fleet.prefill.generate(fleet.name(), PROMPTS[9], 1, {"do_remote_decode": True})
        assert (await fleet.prefill.state())["requests"] == 1
        await fleet.quiet()

    fleet.run(go())


async def _traffic(fleet: Fleet, ended: "asyncio.Queue[int]") -> None:
    """Requests one after the other; those that an engine's death took are not counted."""
    for number in itertools.count():
        index = number % len(PROMPTS)
        try:
            answer = await fleet.ask(index)
        except ConnectionError:
            await fleet.alive()
            continue
        assert answer["tokens"] == fleet.expected[index]
        ended.put_nowait(index)


async def _with_traffic(fleet: Fleet, what: Any) -> None:
    ended: "asyncio.Queue[int]" = asyncio.Queue()
    lines = [asyncio.ensure_future(_traffic(fleet, ended)) for _ in range(6)]

    async def served(count: int) -> None:
        for _ in range(count):
            next_one = asyncio.ensure_future(ended.get())
            await asyncio.wait([next_one, *lines], return_when=asyncio.FIRST_COMPLETED)
            for line in lines:
                if line.done():
                    line.result()
            await next_one

    await served(20)
    await what()
    await served(30)
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_killed_and_started_anew_under_traffic(fleet: Fleet, role: str) -> None:
    fleet.run(_with_traffic(fleet, lambda: fleet.replace(role)))
    fleet.run(fleet.quiet())


def test_blocks_that_a_frozen_prefill_may_write_stay_pinned(fleet: Fleet) -> None:
    async def go() -> None:
        await fleet.ask(0)  # they have met: a peer that never was told of blocks writes none
        name, prompt = fleet.name(), PROMPTS[PROMPTS.index(max(PROMPTS, key=len))]
        first = await fleet.prefill.generate(name, prompt, 1, {"do_remote_decode": True})
        fleet.prefill.signal(signal.SIGSTOP)
        try:
            answer = await fleet.decode.generate(name, prompt, TOKENS, first["kv_transfer_params"])
            assert answer["tokens"] == fleet.expected[PROMPTS.index(prompt)]  # computed anew
            pinned = fleet.free[1] - (await fleet.decode.state())["free_blocks"]
            assert pinned == -(-len(prompt) // 32)
        finally:
            fleet.prefill.signal(signal.SIGCONT)
        await fleet.quiet()

    fleet.run(go())


def test_where_the_policy_is_to_fail_a_request_fails_and_its_blocks_wait_for_proof(
    fleet: Fleet,
) -> None:
    async def go() -> None:
        failing = {**RECOMPUTE, "kv_load_failure_policy": "fail"}
        decode = await Engine(fleet.model, "kv_consumer", failing).start()
        free = (await decode.state())["free_blocks"]
        prompt = PROMPTS[PROMPTS.index(max(PROMPTS, key=len))]
        await disaggregated(fleet.prefill, decode, fleet.name(), prompt, 1)  # they have met
        name, other = fleet.name(), prompt[::-1]
        first = await fleet.prefill.generate(name, other, 1, {"do_remote_decode": True})
        fleet.prefill.signal(signal.SIGSTOP)
        try:
            answer = await decode.generate(name, other, TOKENS, first["kv_transfer_params"])
            assert answer["reason"] == "error"
            assert free - (await decode.state())["free_blocks"] == -(-len(prompt) // 32)
        finally:
            fleet.prefill.signal(signal.SIGCONT)
        assert (await decode.state("idle"))["free_blocks"] == free
        assert await decode.stop() == 0

    fleet.run(go())
    fleet.run(fleet.quiet())


@pytest.mark.parametrize("ranks", [(2, 1), (1, 2)])
def test_prefill_and_decode_are_split_over_other_numbers_of_ranks(
    fleet: Fleet, ranks: "tuple[int, int]"
) -> None:
    async def go() -> None:
        pair = await asyncio.gather(
            *(
                Engine(
                    fleet.model,
                    role,
                    tensor_parallel_size=count,
                    **({"distributed_executor_backend": "mp"} if count > 1 else {}),
                ).start()
                for role, count in zip(("kv_producer", "kv_consumer"), ranks)
            )
        )
        answers = await asyncio.gather(
            *(disaggregated(*pair, fleet.name(), prompt, TOKENS) for prompt in PROMPTS[:8])
        )
        assert [answer["tokens"] for answer in answers] == fleet.expected[:8]
        assert all(answer["cached"] >= len(p) - 1 for answer, p in zip(answers, PROMPTS))
        for engine in pair:
            await engine.state("idle")
            assert await engine.stop() == 0

    fleet.loop.run_until_complete(asyncio.wait_for(go(), 240))


def test_the_example(fleet: Fleet) -> None:
    subprocess.run([sys.executable, str(EXAMPLE), str(fleet.model)], check=True, timeout=300)
