# SPDX-License-Identifier: Apache-2.0
"""Caches as vLLM's own allocator lays them out for its GPU backends, described and moved."""

from typing import Any, List, Tuple

import pytest

pytest.importorskip("vllm")
import torch  # noqa: E402
from kvferry.vllm.layout import layer_tensors  # noqa: E402
from vllm.v1.kv_cache_interface import (  # noqa: E402
    FullAttentionSpec,
    KVCacheLayout,
    MLAAttentionSpec,
    compute_layout_strides,
)

import kvferry  # noqa: E402

HEADS, DIM, PROMPT = 4, 16, 100


class Rank:
    def __init__(self, backend: str, layout: str, block: int, mla: bool = False) -> None:
        sizes = dict(block_size=block, num_kv_heads=HEADS, head_size=DIM, dtype=torch.bfloat16)
        if mla:
            sizes["num_kv_heads"] = 1
        spec: Any = (MLAAttentionSpec if mla else FullAttentionSpec)(**sizes)
        blocks = -(-PROMPT // block)
        strides = compute_layout_strides(spec, blocks, 1, KVCacheLayout[layout])
        raw = torch.zeros(blocks * spec.page_size_bytes, dtype=torch.int8)
        shape = (blocks, spec.num_heads, spec.num_states, spec.state_content_size_bytes)
        self.cache = raw.as_strided(shape, strides[1:]).view(torch.bfloat16)
        common = {"layers": 0, "heads": HEADS, "group": 0, "window": 0, "name": "layer 0"}
        tensors = layer_tensors("layer 0", self.cache, spec, backend, common)
        self.pages = kvferry.Pages.from_tensors(tensors, kvferry.Parallelism([1]))
        self.slots = list(range(blocks))

    def tokens(self) -> torch.Tensor:
        """[token][head][K and V] of the prompt, a copy."""
        return self.cache.transpose(1, 2).flatten(0, 1)[:PROMPT].clone()


RANKS: List[Tuple[str, str, int]] = [
    ("FLASH_ATTN", "LBNHC", 16),
    ("FLASH_ATTN", "LBHNC", 32),
    ("FLASHINFER", "LBHNC", 16),
    ("TRITON_ATTN", "LBNHC", 64),
]


def moved(source: Rank, target: Rank) -> bool:
    source.cache.copy_(torch.randn(source.cache.shape))
    with kvferry.Worker("p", source.pages) as sender, kvferry.Worker("d", target.pages) as receiver:
        rx = receiver.receive(1, target.slots, prompt=PROMPT, source=sender.endpoint)
        sender.send(1, source.slots, prompt=PROMPT)
        rx.wait(20)
        rx.wait_released(20)
    return torch.equal(source.tokens(), target.tokens())


@pytest.mark.parametrize("source", RANKS)
@pytest.mark.parametrize("target", RANKS)
def test_backends_and_block_sizes_meet(source: Any, target: Any) -> None:
    assert moved(Rank(*source), Rank(*target))


def test_latents() -> None:
    assert moved(Rank("MLA", "LBNHC", 16, mla=True), Rank("MLA", "LBNHC", 64, mla=True))


def test_blocks_that_only_their_kernels_understand_need_equal_sizes() -> None:
    assert moved(Rank("CPU_ATTN", "LBHNC", 32), Rank("CPU_ATTN", "LBHNC", 32))
    with pytest.raises(kvferry.Error, match="layout_mismatch"):
        moved(Rank("CPU_ATTN", "LBHNC", 32), Rank("CPU_ATTN", "LBHNC", 64))


def test_an_order_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(NotImplementedError, match="SOME_ATTN"):
        Rank("SOME_ATTN", "LBNHC", 16)
