# SPDX-License-Identifier: Apache-2.0
"""vLLM's cache as page tables. vLLM shows each layer as [block, head, token, content] with strides."""

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Tuple

from ..pages import Pages, Parallelism, Tensor

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import AttentionSpec, KVCacheConfig

# Backends that keep K and V of one token and head side by side, so that tokens can be moved one by one. Others
# order a block's bytes as their kernels like it (the CPU's: by its instruction set): whole blocks are moved
# then, and both engines must have the same backend and block size.
_TOKEN_BACKENDS = frozenset({"FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION"})


class Cache(NamedTuple):
    pages: Pages
    # For each group: how many of the pages' blocks one of vLLM's has; kernels may use smaller ones.
    splits: Tuple[int, ...]
    # Of each tensor's name.
    layers: Dict[str, int]
    # What bytes do not show. Both engines must say the same.
    format: str


def layer_tensors(
    name: str, cache: "torch.Tensor", spec: "AttentionSpec", backend: str, common: Dict[str, Any]
) -> List[Tensor]:
    from vllm.v1.kv_cache_interface import MLAAttentionSpec, SlidingWindowMLASpec

    _, heads, tokens, content = cache.shape
    if spec.tokens_per_state != 1:
        raise NotImplementedError(f"{name}: several tokens share one row of its cache")
    if isinstance(spec, (MLAAttentionSpec, SlidingWindowMLASpec)):
        common = {**common, "heads": 0}  # all ranks hold the same
        return [Tensor(cache.squeeze(1), "block token dim", role="latent", **common)]
    if (
        spec.state_content_bytes is None
        and backend in _TOKEN_BACKENDS
        and heads == spec.num_kv_heads
    ):
        key, value = cache[..., : spec.head_size], cache[..., spec.head_size :]
    elif heads == spec.num_kv_heads and cache.stride()[2:] == (content, 1):
        whole = cache.flatten(2)  # a view: a head's part of a block is one stretch
        return [
            Tensor(whole, "block head dim", role="block", tokens_per_block=tokens, **common),
        ]
    else:
        raise NotImplementedError(
            f"{name}: {backend} keeps {tuple(cache.shape)} with strides {cache.stride()}"
        )
    dims = "block head token dim"
    return [Tensor(key, dims, role="key", **common), Tensor(value, dims, role="value", **common)]


def describe(
    config: "VllmConfig",
    cache_config: "KVCacheConfig",
    kv_caches: "Dict[str, torch.Tensor]",
    place: Parallelism,
) -> Cache:
    from vllm.model_executor.models.utils import extract_layer_index
    from vllm.v1.kv_cache_interface import AttentionSpec, SlidingWindowSpec, UniformTypeKVCacheSpecs

    layers = config.compilation_config.static_forward_context
    heads = config.model_config.get_total_num_kv_heads()
    tensors: List[Tensor] = []
    splits: List[int] = []
    numbers: Dict[str, int] = {}
    formats = set()
    for index, group in enumerate(cache_config.transfer_groups):
        split = 1
        for name in group.layer_names:
            spec = group.kv_cache_spec
            if isinstance(spec, UniformTypeKVCacheSpecs):
                spec = spec.kv_cache_specs[name]
            if not isinstance(spec, AttentionSpec):
                raise NotImplementedError(f"{name}: {type(spec).__name__} is not moved yet")
            layer, cache = layers[name], kv_caches[name]
            numbers[name] = extract_layer_index(name)
            backend = layer.attn_backend.get_name()
            split = spec.block_size // cache.shape[2]
            tensors += layer_tensors(
                name,
                cache,
                spec,
                backend,
                {
                    "layers": numbers[name],
                    "heads": heads,
                    "group": index,
                    "window": spec.sliding_window if isinstance(spec, SlidingWindowSpec) else 0,
                    "name": name,
                },
            )
            if tensors[-1].role == "block":
                formats.add(f"{backend} {getattr(layer, 'isa', '')}".strip())
        splits.append(split)
    pages = Pages.from_tensors(tensors, place)
    return Cache(pages, tuple(splits), numbers, ", ".join(sorted(formats)))
