# SPDX-License-Identifier: Apache-2.0
"""One rank of kvferry in each of SGLang's schedulers, over the pools that KVArgs describes."""

import ctypes
import os
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from sglang.srt.disaggregation.base.conn import BaseKVManager, KVArgs

from ..pages import Pages, Parallelism, Tensor
from ..session import Rx
from ..worker import Worker
from .bootstrap import Place, look_up, register

_DRAFT = 1 << 16  # ids of a draft model's layers, which it counts from 0 itself


class _Pool:
    """A pointer of KVArgs as an array of bytes: [page][token][head][dim], or [page][token][latent]."""

    def __init__(self, address: int, shape: Tuple[int, ...], on_cuda: bool) -> None:
        name = "__cuda_array_interface__" if on_cuda else "__array_interface__"
        setattr(
            self,
            name,
            {"data": (address, False), "shape": shape, "typestr": "|u1", "version": 3},
        )


def _layers(args: KVArgs, is_mla: bool) -> List[Tuple[int, str]]:
    """Layer and role of each pointer: all keys, then all values, or a latent for each layer."""
    count, drafts = len(args.kv_data_ptrs), args.num_draft_entries
    result: List[Tuple[int, str]] = []
    start = getattr(args, "prefill_start_layer", 0)  # decode has all layers, and no such field
    for first, entries in ((start, count - drafts), (_DRAFT, drafts)):
        roles = ("latent",) if is_mla else ("key", "value")
        each = entries // len(roles)
        result += [(first + index, role) for role in roles for index in range(each)]
    if len(result) != count:
        raise ValueError(f"{count} pools are not as many keys as values")
    if args.kv_layer_ids:  # of models where not every layer has a cache
        result = [(layer, role) for layer, (_, role) in zip(args.kv_layer_ids, result)]
    return result


def _heads(args: KVArgs, server_args: Any, tp_size: int) -> Tuple[int, int]:
    """Of this rank, and of the model: a decode engine does not say them in its KVArgs."""
    if hasattr(args, "kv_head_num"):
        return args.kv_head_num, args.total_kv_head_num
    from sglang.srt.configs.model_config import ModelConfig

    config = ModelConfig.from_server_args(server_args)
    return config.get_num_kv_heads(tp_size), config.get_total_num_kv_heads()


def _pages(args: KVArgs, place: Parallelism, heads_of: Tuple[int, int], on_cuda: bool) -> Pages:
    """`heads_of`: this rank, and the model; (0, 0) of latents."""
    tensors, (own, total) = [], heads_of
    is_mla = total == 0
    pointers = zip(args.kv_data_ptrs, args.kv_data_lens, args.kv_item_lens, _layers(args, is_mla))
    for address, size, item, (layer, role) in pointers:
        token = item // args.page_size
        shape: Tuple[int, ...] = (size // item, args.page_size, token)
        dims, heads = "block token dim", 0
        if not is_mla:
            shape = (*shape[:2], own, token // own)
            dims, heads = "block token head dim", total
        pool = _Pool(address, shape, on_cuda)
        tensors.append(Tensor(pool, dims, layer, role, heads=heads, element_type="uint8"))
    return Pages.from_tensors(tensors, place)


class KvferryKVManager(BaseKVManager):
    # SGLang keeps an aborted request's pages until is_abort_release_safe(), or for its own time limit.
    enable_deferred_decode_kv_release = True
    supports_deferred_decode_kv_release = True

    def __init__(
        self,
        args: KVArgs,
        disaggregation_mode: Any,
        server_args: Any,
        is_mla_backend: Optional[bool] = False,
        **options: Any,
    ) -> None:
        """`options`: further ones of kvferry.Worker; without "relay", KVFERRY_RELAY=1 in the environment turns it on."""
        if any(args.state_types):
            raise NotImplementedError("kvferry.sglang moves keys and values, not recurrent state")
        if server_args.pp_size > 1:
            raise NotImplementedError("kvferry.sglang does not know how pipeline stages are cut")
        self.kv_args = args
        self.server_args = server_args
        groups = server_args.dp_size if server_args.enable_dp_attention else 1
        tp_size = server_args.tp_size // groups
        tp_rank = args.engine_rank % tp_size
        self._dp_size = max(groups, server_args.dp_size)
        self.dp_rank = args.engine_rank // tp_size if groups > 1 else args.system_dp_rank or 0
        layers = len(set(_layers(args, bool(is_mla_backend))))
        place = Parallelism([layers], tp_size=tp_size, tp_rank=tp_rank)
        is_prefill = getattr(disaggregation_mode, "value", disaggregation_mode) == "prefill"
        heads = (0, 0) if is_mla_backend else _heads(args, server_args, tp_size)
        pages = _pages(args, place, heads, server_args.device != "cpu")
        options.setdefault("fingerprint", f"{server_args.model_path} {args.kv_cache_dtype_str}")
        options.setdefault("bind_address", server_args.host)
        options.setdefault("relay", os.environ.get("KVFERRY_RELAY") == "1")
        # A DP group is an instance of its own, which a request's DP rank chooses.
        name = f"{'prefill' if is_prefill else 'decode'}-{self.dp_rank}"
        endpoint = self._endpoint_of_first(None, tp_size) if tp_rank > 0 else ""
        self.worker = Worker(name, pages, info_endpoint=endpoint, **options)
        if tp_rank == 0:
            self._endpoint_of_first(self.worker.endpoint, tp_size)
        self._receiving: Dict[int, Rx] = {}
        self._asked_for: Set[int] = set()
        self._places: Dict[Tuple[str, int], Place] = {}
        # By the address of its bootstrap server, what schedulers ask of a prefill engine.
        self.prefill_info_table: Dict[str, Any] = {}
        if is_prefill and tp_rank == 0:
            self.register_to_bootstrap()

    def _endpoint_of_first(self, endpoint: Optional[str], tp_size: int) -> str:
        """Rank 0 tells the others of its group where they find it."""
        if tp_size > 1:
            from sglang.srt.layers.dp_attention import get_attention_tp_group

            endpoint = get_attention_tp_group().broadcast_object(endpoint, src=0)
        return endpoint or ""

    def register_to_bootstrap(self) -> None:
        address = f"{self.server_args.host}:{self.server_args.disaggregation_bootstrap_port}"
        register(address, self.dp_rank, Place(self.worker.endpoint, self._dp_size))

    # -- aux: small buffers, an item of each of which goes with a request --

    def _items(self, index: int) -> Iterator[Tuple[int, int]]:
        for pointer, size in zip(self.kv_args.aux_data_ptrs, self.kv_args.aux_item_lens):
            yield pointer + index * size, size

    def read_aux(self, index: int) -> bytes:
        return b"".join(ctypes.string_at(address, size) for address, size in self._items(index))

    def write_aux(self, index: int, record: bytes) -> None:
        begin = 0
        for address, size in self._items(index):
            part = record[begin : begin + size]
            ctypes.memmove(address, part, len(part))
            begin += size

    # -- what its requests ask --

    def take_events(self) -> None:
        for event in self.worker.poll():
            if event.kind == "ready":
                self._asked_for.add(event.rid)

    def is_asked_for(self, room: int) -> bool:
        """Whether every receiving rank has named its pages."""
        return room in self._asked_for

    def endpoint_of(self, bootstrap_addr: str, dp_rank: int) -> Optional[str]:
        place = self._place_of(bootstrap_addr, dp_rank)
        return place.endpoint if place is not None else None

    def _place_of(self, bootstrap_addr: str, dp_rank: int) -> Optional[Place]:
        known = self._places.get((bootstrap_addr, dp_rank))
        if known is None and (known := look_up(bootstrap_addr, dp_rank)) is not None:
            self._places[bootstrap_addr, dp_rank] = known
        return known

    def try_ensure_parallel_info(self, bootstrap_addr: str) -> bool:
        """Whether a prefill engine is known there; the schedulers ask again when not."""
        if bootstrap_addr not in self.prefill_info_table:
            try:
                place = self._place_of(bootstrap_addr, 0)
            except OSError:  # nobody answers there yet
                return False
            if place is None:
                return False
            self.prefill_info_table[bootstrap_addr] = SimpleNamespace(
                dp_size=place.dp_size, follow_bootstrap_room=True
            )
        return True

    def forget_endpoint(self, bootstrap_addr: str, dp_rank: int) -> None:
        self._places.pop((bootstrap_addr, dp_rank), None)
        self.prefill_info_table.pop(bootstrap_addr, None)

    def receives(self, room: int, session: Rx) -> None:
        self._receiving[room] = session

    def forgets(self, room: int) -> None:
        self._asked_for.discard(room)
        self._receiving.pop(room, None)

    def is_abort_release_safe(self, bootstrap_room: int, required_acks: int = 0) -> bool:
        """Whether nobody writes into the pages of an aborted request any more."""
        self.take_events()
        session = self._receiving.get(bootstrap_room)
        return session is None or session.is_released

    def clear_deferred_abort_state(self, bootstrap_room: int) -> None:
        self.forgets(bootstrap_room)

    def teardown(self) -> None:
        self.close()

    def close(self) -> None:
        self.worker.close()
