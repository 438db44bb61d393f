# SPDX-License-Identifier: Apache-2.0
"""Two vLLM engines: one computes prompts, the other decodes with the pages that it is sent.

python tools/python/examples/vllm_engines.py [model]     without a model: a small one, random weights
"""

import multiprocessing
import os
import random
import sys
import tempfile

CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def start(model, role):
    os.environ.update(CPU)  # where there is no GPU
    from vllm import LLM

    connector = {
        "kv_connector": "KvferryConnector",
        "kv_connector_module_path": "kvferry.vllm",
        "kv_role": role,
    }
    return LLM(
        model,
        kv_transfer_config=connector,
        skip_tokenizer_init=True,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=1024,
        dtype="float32",
    )


def generate(llm, prompts, count, transfers):
    """A request for each prompt, each with what vLLM is to do with its pages."""
    from vllm import SamplingParams

    options = dict(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
    params = [
        SamplingParams(extra_args={"kv_transfer_params": one}, **options) for one in transfers
    ]
    return llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params)


def prefill(pipe, model):
    llm = start(model, "kv_producer")
    while prompts := pipe.recv():
        answers = generate(llm, prompts, 1, [{"do_remote_decode": True} for _ in prompts])
        pipe.send([answer.kv_transfer_params for answer in answers])  # its engine goes on sending
    llm.llm_engine.engine_core.shutdown()


def make_model(folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = dict(hidden_size=128, intermediate_size=256, num_attention_heads=4, head_dim=32)
    shape |= dict(num_hidden_layers=2, num_key_value_heads=2, vocab_size=512)
    LlamaForCausalLM(LlamaConfig(initializer_range=0.15, **shape)).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else make_model(tempfile.mkdtemp())
    pipe, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=prefill, args=(theirs, model))
    other.start()
    llm = start(model, "kv_consumer")
    prompts = [[random.randrange(512) for _ in range(length)] for length in (5, 64, 100, 700)]
    pipe.send(prompts)
    decoded = generate(llm, prompts, 12, pipe.recv())
    alone = generate(llm, prompts, 12, [None] * len(prompts))  # computed here, nothing moved
    same = [a.outputs[0].token_ids == b.outputs[0].token_ids for a, b in zip(decoded, alone)]
    pipe.send(None)
    other.join()
    print(f"{sum(same)} of {len(same)} prompts: the same tokens")
    sys.exit(None if all(same) else "the tokens differ")
