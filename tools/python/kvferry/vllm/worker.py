# SPDX-License-Identifier: Apache-2.0
"""The half of the connector that lives beside the model: one rank of kvferry in each of vLLM's workers."""

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Set, Tuple

from ..errors import Code, Error
from ..pages import Parallelism
from ..session import Rx, Session, Tx
from ..worker import Worker
from .layers import LayerWise, split_blocks, unless_over
from .layout import describe
from .messages import Receive, Send, StepMetadata, StepReport

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig


def _place(config: "VllmConfig") -> Parallelism:
    from vllm.distributed.parallel_state import get_pp_group, get_tp_group
    from vllm.distributed.utils import get_pp_indices

    parallel = config.parallel_config
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        raise NotImplementedError("context parallelism: kvferry.vllm moves whole sequences only")
    stages = parallel.pipeline_parallel_size
    layers = config.model_config.get_total_num_hidden_layers()
    bounds = [get_pp_indices(layers, stage, stages) for stage in range(stages)]
    return Parallelism(
        [end - begin for begin, end in bounds],
        tp_size=parallel.tensor_parallel_size,
        tp_rank=get_tp_group().rank_in_group,
        pp_rank=get_pp_group().rank_in_group,
    )


def _start(instance: str, place: Parallelism, **options: Any) -> Worker:
    """All ranks at once: the others need to know where rank 0 is before they start."""
    from vllm.distributed.parallel_state import get_pp_group, get_tp_group

    endpoint = ""
    first = place.pp_rank == 0 and place.tp_rank == 0
    if first:
        worker = Worker(instance, place=place, **options)
        endpoint = worker.endpoint
    for group in (get_pp_group(), get_tp_group()):  # along one column of ranks, then along rows
        if group.world_size > 1:
            endpoint = group.broadcast_object(endpoint if group.rank_in_group == 0 else None, src=0)
    if not first:
        worker = Worker(instance, place=place, info_endpoint=endpoint, **{**options, "port": 0})
    return worker


class Waits(NamedTuple):
    """In seconds: how long what is computed waits to be asked for, and who asked for what is computed."""

    lease: float
    load_deadline: float


class WorkerHalf:
    def __init__(
        self,
        config: "VllmConfig",
        cache_config: "KVCacheConfig",
        kv_caches: "Dict[str, torch.Tensor]",
        instance: str,
        fingerprint: str,
        waits: Waits,
        **options: Any,
    ) -> None:
        place = _place(config)
        cache = describe(config, cache_config, kv_caches, place)
        self._waits = waits
        self._splits = cache.splits
        self._worker = _start(
            instance,
            place,
            fingerprint=f"{fingerprint}; {cache.format}",
            **options,
        )
        self._worker.publish(cache.pages)
        self.endpoint = self._worker.endpoint
        self.layers = LayerWise(self._worker, cache.splits, cache.layers, waits.lease)
        self._names: Dict[Session, str] = {}  # sessions whose end the scheduler waits for
        self._receiving: Dict[str, Rx] = {}
        self._doubtful: Set[str] = set()
        self._refused: Set[str] = set()
        self._report = StepReport()

    def start(self, step: StepMetadata) -> None:
        """What a step asks for. Nothing here waits."""
        for send in step.sends:
            self._send(send)
        for request_id in step.given_up:
            self.layers.give_up(request_id)
        for rid in step.not_sent:
            self._worker.open_tx(rid).cancel("the request ended before its prompt was computed")
        for receive in step.receives:
            self._receive(receive)
        for receive in step.not_received:
            withdrawn = self._worker.open_rx(receive.rid, receive.endpoint, dp_rank=receive.dp_rank)
            withdrawn.cancel("the request does not need these pages any more")
        for request_id in step.cancelled:
            if (session := self._receiving.pop(request_id, None)) is not None:
                session.cancel("the request was given up")

    def _send(self, send: Send) -> None:
        session: Tx = self._worker.open_tx(send.rid, deadline=self._waits.lease)
        self._names[session] = send.request_id
        unless_over(session.send, self._blocks(send.slots), prompt=send.prompt_tokens)

    def _receive(self, receive: Receive) -> None:
        try:
            session = self._worker.open_rx(
                receive.rid,
                receive.endpoint,
                dp_rank=receive.dp_rank,
                deadline=self._waits.load_deadline,
            )
        except Error:  # too many at once
            self._refused.add(receive.request_id)
            return
        self._names[session] = receive.request_id
        self._receiving[receive.request_id] = session
        unless_over(session.receive, self._blocks(receive.slots), prompt=receive.prompt_tokens)

    def _blocks(self, slots: Tuple[List[int], ...]) -> List[List[int]]:
        return [split_blocks(of_group, parts) for of_group, parts in zip(slots, self._splits)]

    def results(self, finished: Set[str]) -> Tuple[Set[str], Set[str], Set[str]]:
        """Requests whose pages were sent, received, not received, since the last call.

        Outcomes and releases. What failed is told at its outcome, so that vLLM can go on; blocks that may
        still be written then are named in the report, and stay with the scheduler until they are proven quiet.
        """
        sent: Set[str] = set()
        received, failed = set(self._refused), set(self._refused)
        self._refused.clear()
        ended: Dict[str, Session] = {}
        for event in self._worker.poll():
            name = self._names.get(event.session, "")
            if not name:
                continue
            if event.kind == "outcome" and event.code != Code.OK and name in self._receiving:
                ended[name] = event.session
            elif event.kind == "released":
                del self._names[event.session]
                if isinstance(event.session, Tx):
                    sent.add(name)
                elif name in self._doubtful:
                    self._doubtful.discard(name)
                    self._report.proven[name] += 1
                else:
                    self._receiving.pop(name, None)
                    received.add(name)
        for name, session in ended.items():
            failed.add(name)
            if not session.is_released:
                self._receiving.pop(name)
                self._doubtful.add(name)
                self._report.in_doubt[name] += 1
                received.add(name)
        return sent | self.layers.sent(finished), received, failed

    def take_report(self) -> "StepReport | None":
        if not self._report.in_doubt and not self._report.proven:
            return None
        taken, self._report = self._report, StepReport()
        return taken

    def close(self) -> None:
        self._worker.close()
