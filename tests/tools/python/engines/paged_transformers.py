# SPDX-License-Identifier: Apache-2.0
"""A model of transformers whose KV lies in pages, in the layouts of real engines; and the prefill process."""

import random
from typing import Any, Dict, List, Sequence, Tuple

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import kvferry

LAYERS, HEADS, DIM, TOKENS, CHUNK = 4, 2, 32, 12, 48


def load(device: str) -> Any:
    torch.manual_seed(0)  # the same random weights in both processes
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=HEADS,
        head_dim=DIM,
        initializer_range=0.15,
    )
    return LlamaForCausalLM(config).to(device).eval()


def prompts() -> List[List[int]]:
    draw = random.Random(3)
    return [[draw.randrange(512) for _ in range(draw.randint(20, 150))] for _ in range(20)]


@torch.inference_mode()
def generate(model: Any, tokens: List[int], cache: Any, count: int) -> List[int]:
    """`count` further tokens, greedily; computes what the cache lacks."""
    made: List[int] = []
    for _ in range(count):
        given = (tokens + made)[cache.get_seq_length() :]
        ids = torch.tensor([given], device=model.device)
        made.append(int(model(ids, past_key_values=cache).logits[0, -1].argmax()))
    return made


class Side:
    """One engine's pages, and who has which."""

    LAYOUTS = {  # dimensions of a tensor, tokens of a block
        "flash-attention": ("kv block token head dim", 16),
        "flashinfer": ("block kv head token dim", 32),
        "packed": ("block head token kv dim", 8),
        "cross-layer": ("block layer kv token head dim", 64),
        "sglang": ("token head dim", 1),
    }

    def __init__(self, layout: str, device: str) -> None:
        dims, self.block = self.LAYOUTS[layout]
        self.model, self.device, names = None, device, dims.split()
        blocks = 4096 // self.block
        sizes = dict(layer=LAYERS, kv=2, block=blocks, token=self.block, head=HEADS, dim=DIM)
        if "block" not in names:
            sizes["token"] *= blocks
        self._views: Dict[Tuple[int, int], torch.Tensor] = {}  # [block][token][head][dim]
        tensors = []
        for layers in [list(range(LAYERS))] if "layer" in names else [[i] for i in range(LAYERS)]:
            for roles in [(0, 1)] if "kv" in names else [(0,), (1,)]:
                tensor = torch.zeros([sizes[name] for name in names], device=device)
                role = "" if len(roles) == 2 else ("key", "value")[roles[0]]
                per_block = self.block if "block" not in names else 0
                tensors.append(
                    kvferry.Tensor(
                        tensor,
                        dims,
                        layers,
                        role,
                        heads=HEADS,
                        tokens_per_block=per_block,
                    )
                )
                for layer in layers:
                    for kv in roles:
                        self._views[layer, kv] = self._view(
                            tensor, names, layer - layers[0], kv - roles[0]
                        )
        self.pages = kvferry.Pages.from_tensors(tensors, kvferry.Parallelism([LAYERS]))
        self._free = random.Random(5).sample(range(blocks), blocks)

    def _view(self, tensor: Any, names: List[str], layer: int, kv: int) -> torch.Tensor:
        names = list(names)
        for name, index in (("layer", layer), ("kv", kv)):
            if name in names:
                tensor = tensor.select(names.index(name), index)
                names.remove(name)
        if "block" not in names:
            tensor = tensor.unflatten(names.index("token"), (-1, self.block))
            names.insert(names.index("token"), "block")
        return tensor.permute([names.index(name) for name in ("block", "token", "head", "dim")])

    def worker(self, name: str) -> kvferry.Worker:
        return kvferry.Worker(name, self.pages, session_deadline=40)

    def room(self, tokens: int) -> List[int]:
        return [self._free.pop() for _ in range(-(-tokens // self.block))]

    def give_back(self, slots: Sequence[int]) -> None:
        self._free += slots

    def put(self, slots: List[int], cache: Any, begin: int, end: int, layer: int = -1) -> None:
        """Tokens [begin, end) of a cache of transformers, of all its layers or of one."""
        index = torch.arange(begin, end, device=self.device)
        slot = torch.tensor(slots, device=self.device)[index // self.block]
        for (each, kv), view in self._views.items():
            if layer not in (-1, each):
                continue
            of_layer = cache.layers[each]
            tokens = (of_layer.keys, of_layer.values)[kv][0].transpose(0, 1)  # [token][head][dim]
            view[slot, index % self.block] = tokens[begin:end]

    def cache(self, slots: List[int], tokens: int) -> Any:
        cache = DynamicCache()
        for layer in range(LAYERS):
            found = [
                self._views[layer, kv][slots].flatten(0, 1)[:tokens].transpose(0, 1)[None].clone()
                for kv in (0, 1)
            ]
            cache.update(*found, layer)
        return cache

    def decode(self, slots: List[int], prompt: List[int], token: int) -> List[int]:
        if self.model is None:
            self.model = load(self.device)
        cache = self.cache(slots, len(prompt))
        return [token] + generate(self.model, prompt + [token], cache, TOKENS - 1)


def _send(
    model: Any, side: Side, worker: kvferry.Worker, how: str, rid: int, prompt: List[int]
) -> Tuple[List[int], kvferry.Tx]:
    """ "whole", in "chunks" of the prompt, or in "layers", each as soon as it is computed."""
    slots, cache, size = side.room(len(prompt)), DynamicCache(), side.block
    session = worker.open_tx(rid, aux=True)

    def layer_done(layer: int) -> Any:
        def hook(*_: Any) -> None:
            side.put(slots, cache, 0, len(prompt), layer)
            more = layer + 1 < LAYERS
            session.send(slots, prompt=len(prompt), layers=(layer, layer + 1), more=more)

        return hook

    if how == "layers":
        modules = enumerate(model.model.layers)
        hooks = [module.register_forward_hook(layer_done(layer)) for layer, module in modules]
        token = generate(model, prompt, cache, 1)
        for hook in hooks:
            hook.remove()
    else:
        step = CHUNK if how == "chunks" else len(prompt)
        for begin in range(0, len(prompt), step):
            end = min(begin + step, len(prompt))
            token = generate(model, prompt[:end], cache, 1)
            side.put(slots, cache, begin, end)
            session.send(
                slots[begin // size : -(-end // size)],
                prompt=len(prompt),
                tokens=(begin, end),
                first_block=begin // size,
                more=end < len(prompt),
            )
    session.send_aux(kvferry.Aux(token))
    return slots, session


def serve(pipe: Any, device: str) -> None:
    """The prefill process: an instance for each layout."""
    model = load(device)
    sides = {layout: Side(layout, device) for layout in Side.LAYOUTS}
    workers = {name: side.worker(f"prefill {name}") for name, side in sides.items()}
    pipe.send({name: worker.endpoint for name, worker in workers.items()})
    pipe.send([generate(model, prompt, DynamicCache(), TOKENS) for prompt in prompts()])
    while (asked := pipe.recv()) is not None:
        layout, how, requests = asked
        side, given = sides[layout], []
        for rid, index in requests:
            given.append(_send(model, side, workers[layout], how, rid, prompts()[index]))
        for slots, session in given:
            session.wait_released(60)
            side.give_back(slots)
    for worker in workers.values():
        worker.close()
