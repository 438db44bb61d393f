# SPDX-License-Identifier: Apache-2.0
"""One SGLang engine, with its own scheduler in a process of its own, that speaks JSON lines.

    python sglang_engine.py <model folder> '<options as JSON>'

A line on stdin has arguments of Engine.generate; the answer on stdout is {"tokens": [[...], ...]}, or
{"error": text}. The first line out is {"ready": true}; end of stdin: the engine stops.
"""

import json
import os
import sys
from typing import Any, Dict

OPTIONS: Dict[str, Any] = dict(
    device="cpu",
    attention_backend="torch_native",
    sampling_backend="pytorch",
    skip_tokenizer_init=True,
    disable_cuda_graph=True,
    disable_overlap_schedule=True,
    dtype="float32",
    mem_fraction_static=0.2,
    max_total_tokens=8192,
    host="127.0.0.1",
)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # SGLang prints to stdout
    import sglang

    engine = sglang.Engine(model_path=sys.argv[1], **{**OPTIONS, **json.loads(sys.argv[2])})
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            told = [one["output_ids"] for one in engine.generate(**json.loads(line))]
            answer: Dict[str, Any] = {"tokens": told}
        except Exception as error:  # of one request
            answer = {"error": repr(error)}
        print(json.dumps(answer), file=answers, flush=True)
    engine.shutdown()


if __name__ == "__main__":
    main()
