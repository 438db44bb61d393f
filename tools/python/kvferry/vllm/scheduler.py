# SPDX-License-Identifier: Apache-2.0
"""The half of the connector that lives in vLLM's scheduler: which blocks go where, and who owns them."""

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Tuple

from ..session import NO_SLOT
from .. import rid_of
from .messages import Chunk, Receive, Send, Slots, StepMetadata, StepReport

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

NULL_BLOCK = 0  # vLLM's id of "no block here": outside of a sliding window


def _from(block_ids: Sequence[int], first: int) -> List[int]:
    """Without the blocks before `first`, which this engine has already, and without null blocks."""
    return [
        NO_SLOT if index < first or block == NULL_BLOCK else block
        for index, block in enumerate(block_ids)
    ]


class SchedulerHalf:
    def __init__(
        self, engine_id: str, dp_rank: int, kv_cache_config: "KVCacheConfig", layer_wise: bool
    ) -> None:
        self.endpoint = ""  # of this engine's instance, once its workers run
        self._engine_id = engine_id
        self._dp_rank = dp_rank
        self._cache = kv_cache_config
        self._layer_wise = layer_wise
        self._computing: "Dict[str, Request]" = {}  # prompts whose layers are sent one by one
        self._sent_tokens: Dict[str, int] = {}  # of these, once there are some
        self._withdrawn: Set[str] = set()  # prompts that were preempted after some of it was sent
        sizes = [group.kv_cache_spec.block_size for group in kv_cache_config.transfer_groups]
        self._whole_blocks = math.lcm(*sizes)
        self._next = StepMetadata()
        self._loading: Set[str] = set()
        self._manager: "Optional[KVCacheManager]" = None
        self._pinned: Dict[str, Tuple[Sequence[Any], ...]] = {}
        self._doubts: "Counter[str]" = Counter()

    def bind(self, manager: "KVCacheManager") -> None:
        self._manager = manager

    def take_step(self, scheduled: "SchedulerOutput") -> StepMetadata:
        if self._computing:
            self._add_chunks(scheduled)
        taken, self._next = self._next, StepMetadata()
        return taken

    @property
    def waits_for_proof(self) -> bool:
        return bool(self._pinned)

    # -- decode: pages are received --

    def tokens_to_load(self, request: "Request", computed: int) -> Tuple[int, bool]:
        params = request.kv_transfer_params
        if not params or not params.get("do_remote_prefill"):
            return 0, False
        count = request.num_prompt_tokens - computed
        return (count, True) if count > 0 else (0, False)

    def allocated(self, request: "Request", blocks: "KVCacheBlocks", external: int) -> None:
        """Called twice for a request that is loaded: what it needs is read, and asked for, the first time."""
        params = request.kv_transfer_params
        if not params:
            return
        if self._layer_wise and params.get("do_remote_decode"):
            if request.request_id not in self._withdrawn:
                self._computing[request.request_id] = request
        if not params.get("do_remote_prefill"):
            return
        params["do_remote_prefill"] = False
        if external <= 0:  # all of it is here: the other engine's pages must not wait for us
            self._next.not_received.append(self._receive(request, params, ()))
            return
        have = request.num_prompt_tokens - external
        ids = self._cache.select_transfer_block_ids(blocks.get_block_ids())
        slots = tuple(
            _from(of_group, have // group.kv_cache_spec.block_size)
            for of_group, group in zip(ids, self._cache.transfer_groups)
        )
        self._next.receives.append(self._receive(request, params, slots))
        self._loading.add(request.request_id)

    def _receive(self, request: "Request", params: Dict[str, Any], slots: Slots) -> Receive:
        return Receive(
            request.request_id,
            rid_of(params["transfer_id"]),
            params["kvferry_endpoint"],
            params.get("dp_rank", 0),
            slots,
            request.num_prompt_tokens,
        )

    # -- prefill: pages are sent --

    def _transfer_id(self, request: "Request") -> str:
        params = request.kv_transfer_params or {}
        return params.get("transfer_id") or f"{self._engine_id}/{request.request_id}"

    def _add_chunks(self, scheduled: "SchedulerOutput") -> None:
        for request_id in scheduled.preempted_req_ids or ():
            self._computing.pop(request_id, None)
            if self._sent_tokens.pop(request_id, 0) > 0:
                self._withdrawn.add(request_id)
                self._next.preempted.append(request_id)
        for request_id, request in self._computing.items():
            prompt, begin = request.num_prompt_tokens, self._sent_tokens.get(request_id, 0)
            new = scheduled.num_scheduled_tokens.get(request_id, 0)
            end = min(request.num_computed_tokens + new, prompt)
            if end < prompt:  # whole blocks travel
                end -= end % self._whole_blocks
            if new > 0 and begin < end:
                self._next.chunks.append(self._chunk(request, scheduled, begin, end))
                self._sent_tokens[request_id] = end

    def _chunk(
        self, request: "Request", scheduled: "SchedulerOutput", begin: int, end: int
    ) -> Chunk:
        state = scheduled.kv_connector_block_state
        ids = state.get_block_ids(request.request_id) if state is not None else None
        assert ids is not None  # it is scheduled
        sizes = [group.kv_cache_spec.block_size for group in self._cache.transfer_groups]
        return Chunk(
            request.request_id,
            rid_of(self._transfer_id(request)),
            tuple(
                _from(of_group[begin // size : -(-end // size)], 0)
                for of_group, size in zip(self._cache.select_transfer_block_ids(ids), sizes)
            ),
            tuple(begin // size for size in sizes),
            begin,
            end,
            request.num_prompt_tokens,
        )

    def finished(
        self, request: "Request", block_ids: Tuple[List[int], ...], complete: bool
    ) -> Tuple[bool, Optional[Dict[str, Any]]]:
        """Whether the blocks stay with us until they are sent, and what the other engine must know."""
        params = request.kv_transfer_params
        if request.request_id in self._loading:
            self._loading.discard(request.request_id)
            self._next.cancelled.append(request.request_id)
        if not params:
            return False, None
        if params.get("do_remote_prefill"):  # given up before it got blocks
            params["do_remote_prefill"] = False
            self._next.not_received.append(self._receive(request, params, ()))
            return False, None
        if not params.get("do_remote_decode"):
            return False, None
        self._computing.pop(request.request_id, None)
        sent = self._sent_tokens.pop(request.request_id, 0)
        if request.request_id in self._withdrawn:  # the other engine was told
            self._withdrawn.discard(request.request_id)
            return False, None
        transfer_id = self._transfer_id(request)
        ids = self._cache.select_transfer_block_ids(block_ids)
        if not complete or not any(ids):
            if sent > 0:
                self._next.given_up.append(request.request_id)
                return True, None
            self._next.not_sent.append(rid_of(transfer_id))
            return False, None
        if sent == 0:
            slots = tuple(_from(of_group, 0) for of_group in ids)
            self._next.sends.append(
                Send(request.request_id, rid_of(transfer_id), slots, request.num_prompt_tokens)
            )
        return True, {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": transfer_id,
            "kvferry_endpoint": self.endpoint,
            "dp_rank": self._dp_rank,
        }

    # -- what the workers report --

    def reported(self, finished_loading: Set[str], report: Optional[StepReport]) -> None:
        """Before vLLM frees or reuses the blocks of what has finished."""
        self._loading -= finished_loading
        if report is None:
            return
        for request_id in report.in_doubt:
            self._pin(request_id)
        self._doubts += report.in_doubt
        for request_id, ranks in report.proven.items():
            self._doubts[request_id] -= ranks
            if self._doubts[request_id] <= 0:
                del self._doubts[request_id]
                self._unpin(request_id)

    def _pin(self, request_id: str) -> None:
        """vLLM computes the request anew, or fails it, and may then give its blocks to others."""
        if request_id in self._pinned or self._manager is None:
            return
        blocks = tuple(list(group) for group in self._manager.get_blocks(request_id).blocks)
        for of_group in blocks:
            self._manager.block_pool.touch(of_group)
        self._pinned[request_id] = blocks

    def _unpin(self, request_id: str) -> None:
        assert self._manager is not None
        for of_group in self._pinned.pop(request_id, ()):
            self._manager.block_pool.free_blocks(reversed(of_group))
