# SPDX-License-Identifier: Apache-2.0
"""What a rank's cache looks like: its place in the instance, and where its layers lie."""

import ctypes
from dataclasses import dataclass, field
from typing import Any, Iterable, List, Optional, Sequence, Union

from . import _abi
from .arrays import memory_of
from .memory import Memory, memory_at


@dataclass(frozen=True)
class Parallelism:
    """A rank's place in its instance. `layers_per_stage` has one number for each pipeline stage.

    `attention_dp`: 0, or the TP ranks of each data-parallel group (True: 1, each rank is a group).
    """

    layers_per_stage: Sequence[int]
    tp_size: int = 1
    tp_rank: int = 0
    pp_rank: int = 0
    cp_size: int = 1
    cp_rank: int = 0
    attention_dp: int = 0
    world_size: int = 0  # 0: tp_size * stages * cp_size

    def _c(self) -> _abi.Parallelism:
        stages = len(self.layers_per_stage)
        return _abi.Parallelism(
            tp_size=self.tp_size,
            tp_rank=self.tp_rank,
            pp_size=stages,
            pp_rank=self.pp_rank,
            cp_size=self.cp_size,
            cp_rank=self.cp_rank,
            attention_dp=self.attention_dp,
            world_size=self.world_size,
            stages=stages,
            layers_per_stage=(ctypes.c_uint32 * stages)(*self.layers_per_stage),
        )


@dataclass(frozen=True)
class Tensor:
    """One tensor of the cache.

    `dims` names its dimensions in the order of its shape: "kv" (K and V), "layer", "block" (what slots
    count), "token", "head" (of this rank), "dim" (elements of a head or of a latent; always there), "inner"
    (inside "dim", of states only). "kv block token head dim" is vLLM's FlashAttention, "block kv head token
    dim" FlashInfer, "block token dim" an MLA latent, "token head dim" SGLang.
    """

    data: Any  # a tensor of torch, numpy, cupy, ...
    dims: str
    layers: Union[int, Sequence[int]]  # global ids: one, or one for each index of "layer"
    role: str = ""  # "key", "value", "ssm"; empty with "kv", which has both
    heads: int = 0  # of the whole model; 0: all ranks hold the same bytes (MLA)
    group: int = 0  # tensors of a group are listed by one list of slots per request
    window: int = 0  # sliding window in tokens; 0: full attention
    tokens_per_block: int = 0  # of tensors without "block" or without "token"
    sections: Sequence[int] = field(
        default=()
    )  # along "dim", of what is split over ranks each by itself
    element_type: str = ""  # empty: as the tensor says
    tokens_per_row: int = 1  # of a compressed cache: tokens that one index of "token" stands for
    tokens_are_dealt: bool = False  # CP ranks deal out tokens one by one, not in blocks
    name: str = ""  # for errors


def _array(kind: Any, values: Sequence[int]) -> Any:
    return (kind * len(values))(*values)


def _c_tensor(tensor: Tensor) -> _abi.Tensor:
    memory = memory_of(tensor.data)
    layers = [tensor.layers] if isinstance(tensor.layers, int) else list(tensor.layers)
    result = _abi.Tensor(
        dimensions=len(memory.shape),
        base=memory.address,
        dims=tensor.dims.encode(),
        name=(tensor.name or f"layer {layers[0]} {tensor.role}").encode(),
        shape=_array(ctypes.c_int64, memory.shape),
        element_type=(tensor.element_type or memory.element_type).encode(),
        element_bytes=memory.element_bytes,
        layers=_array(ctypes.c_uint32, layers),
        layer_count=len(layers),
        role=tensor.role.encode(),
        group=tensor.group,
        heads=tensor.heads,
        window_tokens=tensor.window,
        tokens_per_block=tensor.tokens_per_block,
        sections=_array(ctypes.c_uint64, tensor.sections),
        section_count=len(tensor.sections),
        tokens_per_row=tensor.tokens_per_row,
        flags=_abi.TOKENS_ARE_DEALT if tensor.tokens_are_dealt else 0,
    )
    if memory.strides is not None:
        result.strides = _array(ctypes.c_int64, memory.strides)
    return result


def _regions_of(tensors: List[_abi.Tensor]) -> List[_abi.Region]:
    if not tensors:
        return []
    array = (_abi.Tensor * len(tensors))(*tensors)
    count = ctypes.c_size_t(len(tensors))
    regions = (_abi.Region * len(tensors))()
    regions[0].size = ctypes.sizeof(_abi.Region)
    _abi.tensors_regions(array, len(tensors), regions, ctypes.byref(count))
    return list(regions)[: count.value]


class Pages:
    """The page table of one rank, and the memory that it is about. Holds the tensors."""

    def __init__(
        self,
        handle: ctypes.c_void_p,
        place: Parallelism,
        regions: List[_abi.Region],
        keeps: Sequence[Any],
    ) -> None:
        self._handle = handle
        self.place = place
        self._regions = (_abi.Region * len(regions))(*regions)
        self._keeps = list(keeps)

    def __del__(self, free: Any = _abi.quiet(_abi.pages_free)) -> None:
        free(getattr(self, "_handle", None))

    @property
    def on_cuda(self) -> bool:
        return any(region.kind == _abi.CUDA for region in self._regions)

    @staticmethod
    def from_tensors(tensors: Iterable[Tensor], place: Parallelism) -> "Pages":
        """The cache as an engine keeps it. Tensors in a Memory are mapped by peers of this machine.

        Raises Error with the tensor's name, what is wrong and what to do.
        """
        listed = list(tensors)
        described = [_c_tensor(tensor) for tensor in listed]
        on_cuda = [memory_of(tensor.data).on_cuda for tensor in listed]
        keeps: List[Any] = [tensor.data for tensor in listed]
        regions: List[_abi.Region] = []
        for region in _regions_of([one for one, cuda in zip(described, on_cuda) if not cuda]):
            if (memory := memory_at(region.base, region.bytes)) is None:
                region.kind = _abi.HOST_PRIVATE
                regions.append(region)
            elif not any(kept is memory for kept in keeps):
                keeps.append(memory)
                regions.append(memory._region)
        for region in _regions_of([one for one, cuda in zip(described, on_cuda) if cuda]):
            region.kind = _abi.CUDA
            regions.append(region)
        handle = ctypes.c_void_p()
        _abi.pages_from_tensors(
            (_abi.Tensor * len(described))(*described),
            len(described),
            place._c(),
            (_abi.Region * len(regions))(*regions),
            len(regions),
            ctypes.byref(handle),
        )
        return Pages(handle, place, regions, keeps)

    @staticmethod
    def from_model(
        *,
        layers: int,
        kv_heads: int,
        head_dim: int,
        tokens_per_block: int,
        slots: int,
        place: Optional[Parallelism] = None,
        element_type: str = "bf16",
        element_bytes: int = 2,
        first_layer: int = 0,
        mla: bool = False,
        nhd: bool = False,
        window: int = 0,
        name: str = "kvferry",
    ) -> "Pages":
        """One pool of `slots` slots in memory of kvferry's (`memory`), for engines that have none yet.

        A slot holds one block of all layers of the rank's stage: [layer][K, V][head][token][dim], with `nhd`
        [layer][K, V][token][head][dim], with `mla` [layer][token][latent].
        """
        place = place or Parallelism([layers])
        model = _abi.Model(
            layers=layers,
            first_layer=first_layer,
            kv_heads=kv_heads,
            head_dim=head_dim,
            element_bytes=element_bytes,
            tokens_per_block=tokens_per_block,
            attention=_abi.MLA if mla else _abi.GQA,
            order=_abi.NHD if nhd else _abi.HND,
            window_tokens=window,
            element_type=element_type.encode(),
        )
        handle = ctypes.c_void_p()
        _abi.pages_from_model(model, place._c(), slots, ctypes.byref(handle))
        pages = Pages(handle, place, [], [])
        pool = _abi.Pool()
        _abi.pages_pool(handle, 0, pool)
        memory = Memory(pool.bytes, name)
        pages._keeps.append(memory)
        pages._regions = (_abi.Region * 1)(memory._region)
        return pages

    @property
    def memory(self) -> Memory:
        """Of pages made by from_model."""
        return next(kept for kept in self._keeps if isinstance(kept, Memory))

    def slot(self, index: int) -> memoryview:
        """The bytes of a slot of pages made by from_model."""
        pool = _abi.Pool()
        _abi.pages_pool(self._handle, 0, pool)
        begin = index * pool.slot_stride_bytes
        return self.memory.view[begin : begin + pool.slot_bytes]
