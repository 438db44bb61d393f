# SPDX-License-Identifier: Apache-2.0
"""transformers prefills in one process and decodes in another; each keeps its KV in pages of its own kind.

pip install torch transformers ./tools/python
python tools/python/examples/transformers_pages.py [cuda:0 cuda:1]
"""

import multiprocessing
import sys

import kvferry
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

LAYERS, HEADS, DIM = 2, 2, 32
SHAPE = dict(hidden_size=128, intermediate_size=256, num_attention_heads=4, initializer_range=0.15)
SHAPE |= dict(num_hidden_layers=LAYERS, num_key_value_heads=HEADS, head_dim=DIM, vocab_size=512)


def load(device):
    torch.manual_seed(0)  # the same random weights in both processes
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).to(device).eval()


class PagedCache:
    def __init__(self, dims, block, device):
        names, sizes = dims.split(), dict(layer=LAYERS, kv=2, block=64, head=HEADS, dim=DIM)
        sizes["token"] = block
        tensor = torch.zeros([sizes[name] for name in names], device=device)
        described = kvferry.Tensor(tensor, dims, layers=range(LAYERS), heads=HEADS)
        self.pages = kvferry.Pages.from_tensors([described], kvferry.Parallelism([LAYERS]))
        order = [names.index(name) for name in ("block", "token", "layer", "kv", "head", "dim")]
        self.blocks, self.block = tensor.permute(order), block

    def put(self, slots, cache):
        tokens = torch.stack([torch.cat([each.keys, each.values]) for each in cache.layers])
        for slot, part in zip(slots, tokens.permute(3, 0, 1, 2, 4).split(self.block)):
            self.blocks[slot, : len(part)] = part

    def get(self, slots, length):
        cache, tokens = DynamicCache(), self.blocks[slots].flatten(0, 1)[:length].clone()
        for index, (keys, values) in enumerate(tokens.permute(1, 2, 3, 0, 4)):
            cache.update(keys[None], values[None], index)
        return cache


@torch.inference_mode()
def generate(model, tokens, cache, count):
    for _ in range(count):
        ids = torch.tensor([tokens[cache.get_seq_length() :]], device=model.device)
        tokens = tokens + [int(model(ids, past_key_values=cache).logits[0, -1].argmax())]
    return tokens


def prefill(pipe, device):
    model, paged = load(device), PagedCache("layer kv block token head dim", 16, device)
    with kvferry.Worker("prefill", paged.pages) as worker:
        pipe.send(worker.endpoint)
        prompt, cache, slots = pipe.recv(), DynamicCache(), torch.randperm(64)[:10].tolist()
        tokens = generate(model, prompt, cache, 1)
        paged.put(slots, cache)
        sent = worker.send(1, slots, prompt=len(prompt), aux=kvferry.Aux(tokens[-1:]))
        pipe.send(generate(model, tokens, cache, 15))  # what this process alone would say
        sent.wait_released()  # from here on the slots are free


if __name__ == "__main__":
    devices = sys.argv[1:] or ["cpu", "cpu"]
    pipe, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=prefill, args=(theirs, devices[0])).start()
    model, paged = load(devices[1]), PagedCache("block layer kv head token dim", 64, devices[1])
    prompt, slots = torch.randint(512, (150,)).tolist(), [7, 3, 5]
    with kvferry.Worker("decode", paged.pages) as worker:
        receiving = worker.receive(1, slots, prompt=len(prompt), source=pipe.recv(), aux=True)
        pipe.send(prompt)
        outcome = receiving.wait()
        cache, tokens = paged.get(slots, len(prompt)), prompt + list(outcome.aux.first_tokens)
        tokens = generate(model, tokens, cache, 15)
        print(f"{outcome.bytes} bytes, {outcome.peers[0].route}: {tokens[len(prompt):]}")
        sys.exit(None if tokens == pipe.recv() else "the tokens differ")
