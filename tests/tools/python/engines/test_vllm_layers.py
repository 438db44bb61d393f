# SPDX-License-Identifier: Apache-2.0
"""Real vLLM engines whose prefill side sends each layer while it computes the next one."""

import asyncio
import random
from typing import Any, Dict, List

import pytest

pytest.importorskip("vllm")
from vllm_fleet import Engine, asked_at_once, disaggregated, make_model  # noqa: E402

TOKENS, LAYERS = 12, 4
LAYER_WISE: Dict[str, Any] = {
    "kv_load_failure_policy": "recompute",
    "kv_connector_extra_config": {"layer_wise": True, "lease": 20, "load_deadline": 20},
}


def prompts() -> List[List[int]]:
    draw = random.Random(5)
    lengths = [1, 31, 32, 33, 64, 127, 128, 129, 300, 500, 900]
    return [[draw.randrange(512) for _ in range(length)] for length in lengths * 2]


PROMPTS = prompts()
LONG = [prompt for prompt in PROMPTS if len(prompt) == 900]


class Fleet:
    def __init__(self, loop: asyncio.AbstractEventLoop, model: Any) -> None:
        self.loop, self.model, self._number = loop, model, 0

    async def start(self) -> None:
        # Chunks end inside of blocks. Two long prompts do not fit at once: the younger one is preempted.
        chunked = dict(max_num_batched_tokens=150, num_gpu_blocks_override=48)
        chunked["scheduler_reserve_full_isl"] = False
        self.prefill, self.decode = await asyncio.gather(
            Engine(
                self.model, "kv_producer", LAYER_WISE, enable_prefix_caching=False, **chunked
            ).start(),
            Engine(self.model, "kv_consumer", LAYER_WISE, enable_prefix_caching=False).start(),
        )
        self.expected = [  # one engine alone: nothing is moved
            (await self.decode.generate(f"alone-{index}", prompt, TOKENS))["tokens"]
            for index, prompt in enumerate(PROMPTS)
        ]
        self.free = [await self.free_blocks(engine) for engine in (self.prefill, self.decode)]
        first = await self.prefill.generate("first", PROMPTS[0], 1, {"do_remote_decode": True})
        params = first["kv_transfer_params"]
        self.endpoint = params["kvferry_endpoint"]
        await self.decode.generate("first", PROMPTS[0], 1, params)

    async def stop(self) -> List[int]:
        return [await engine.stop() for engine in (self.prefill, self.decode)]

    async def free_blocks(self, engine: Engine, when: str = "state") -> int:
        return (await asyncio.wait_for(engine.state(when), 120))["free_blocks"]

    async def ask(self, index: int, at_once: bool) -> Dict[str, Any]:
        self._number += 1
        name = f"request-{self._number}"
        if at_once:
            return await asked_at_once(
                self.prefill, self.decode, self.endpoint, name, PROMPTS[index], TOKENS
            )
        return await disaggregated(self.prefill, self.decode, name, PROMPTS[index], TOKENS)

    async def quiet(self) -> None:
        free = [await self.free_blocks(engine, "idle") for engine in (self.prefill, self.decode)]
        assert free == self.free

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, 600))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Any:
    loop = asyncio.new_event_loop()
    model = make_model(tmp_path_factory.mktemp("model"), num_hidden_layers=LAYERS)
    result = Fleet(loop, model)
    loop.run_until_complete(asyncio.wait_for(result.start(), 900))
    yield result
    assert result.run(result.stop()) == [0, 0]


@pytest.mark.parametrize("at_once", [False, True])
def test_tokens_are_those_of_one_engine(fleet: Fleet, at_once: bool) -> None:
    async def go() -> None:
        for index in range(len(PROMPTS) // 2):  # one after the other: none is preempted
            answer = await fleet.ask(index, at_once)
            assert answer["tokens"] == fleet.expected[index]
            assert answer["cached"] >= len(PROMPTS[index]) - 1
        await fleet.quiet()

    fleet.run(go())


def test_a_layer_travels_before_the_next_chunk_is_computed(fleet: Fleet) -> None:
    """The receiving side hears of layers while the prompt's last chunk is not even scheduled."""

    async def go() -> None:
        prompt = LONG[0]
        before = (await fleet.prefill.state())["slices"]
        await fleet.ask(PROMPTS.index(prompt), at_once=True)
        sent = (await fleet.prefill.state())["slices"] - before
        chunks = -(-len(prompt) // 150)
        assert sent >= (chunks - 1) * LAYERS  # whole blocks of each chunk, each layer by itself
        await fleet.quiet()

    fleet.run(go())


@pytest.mark.parametrize("at_once", [False, True])
def test_a_prompt_that_is_preempted_is_computed_anew(fleet: Fleet, at_once: bool) -> None:
    async def go() -> None:
        index, prefill = PROMPTS.index(LONG[0]), fleet.prefill
        before = (await prefill.state())["preempted"]
        # Its pages wait for decode: what is left is enough for a part of another one.
        waits = await prefill.generate(f"waits-{at_once}", LONG[0], 1, {"do_remote_decode": True})
        asked = asyncio.ensure_future(fleet.ask(PROMPTS.index(LONG[1]), at_once))
        while (await prefill.state())["preempted"] == before:
            assert not asked.done()
        params = waits["kv_transfer_params"]
        first = await fleet.decode.generate(f"waits-{at_once}", LONG[0], TOKENS, params)
        assert first["tokens"] == fleet.expected[index]
        assert (await asked)["tokens"] == fleet.expected[PROMPTS.index(LONG[1])]
        await fleet.quiet()

    fleet.run(go())


def test_given_up_while_layers_travel(fleet: Fleet) -> None:
    async def give_up(number: int) -> str:
        name, prompt = f"given-up-{number}", LONG[0]
        params = {"transfer_id": name}
        source = {"do_remote_prefill": True, "kvferry_endpoint": fleet.endpoint, **params}
        asked = {
            fleet.prefill: fleet.prefill.generate(
                name, prompt, 1, {"do_remote_decode": True, **params}
            ),
            fleet.decode: fleet.decode.generate(name, prompt, TOKENS, source),
        }
        futures = [asyncio.ensure_future(one) for one in asked.values()]
        await fleet.prefill.steps(number)
        for engine in (fleet.prefill, fleet.decode)[number % 2 :]:
            engine.abort(name)
        answers = await asyncio.gather(*futures)
        return answers[1]["reason"]

    async def go() -> None:
        for number in range(12):
            assert await give_up(number) in ("abort", "length")
            await fleet.quiet()
        answer = await fleet.ask(8, at_once=True)
        assert answer["tokens"] == fleet.expected[8]

    fleet.run(go())
