# SPDX-License-Identifier: Apache-2.0
"""The class that vLLM loads: it hands each of vLLM's calls to the half that it is for."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set, Tuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    KVConnectorWorkerMetadata,
    SupportsHMA,
)
from vllm.v1.metrics.cache_hit_source import CacheHitSource
from vllm.v1.request import RequestStatus

from .host_memory import SharedHostMemory
from .messages import RankAddress, StepMetadata, StepReport
from .scheduler import SchedulerHalf
from .worker import Waits, WorkerHalf

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

# Settings in kv_connector_extra_config that are options of kvferry.Worker as they are.
_WORKER_OPTIONS = (
    "bind_address",
    "port",
    "advertise",
    "route",
    "same_host_link",
    "digests",
    "host_link_folder",
    "transfer_deadline",
    "secret_file",
    "insecure",
    "plain_bulk",
    "relay",
)


class KvferryConnector(KVConnectorBase_V1, SupportsHMA):
    """Moves the KV cache of finished prompts from a prefill engine to a decode engine.

    Further settings: "lease", for how many seconds a finished prompt waits for its decode engine (480);
    "load_deadline", for how many a decode engine waits for the first pages of a request (120); "fingerprint", a
    text that both engines must share, by default the model and the type of its cache; "layer_wise", whether prefill
    sends each layer while it computes the next one: worth it where a proxy asks both engines at once.
    """

    _cache_hit_source = CacheHitSource.P2P

    def __init__(
        self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig"
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._settings: Dict[str, Any] = dict(self._kv_transfer_config.kv_connector_extra_config)
        engine_id = self._kv_transfer_config.engine_id
        assert engine_id is not None
        self._engine_id: str = engine_id
        self._worker: Optional[WorkerHalf] = None
        # Each of vLLM's DP ranks is an engine, and an instance of kvferry, of its own: its one group is 0.
        self._layer_wise = self.requires_piecewise_for_cudagraph(self._settings)
        self._scheduler = SchedulerHalf(engine_id, 0, kv_cache_config, self._layer_wise)

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: Dict[str, Any]) -> bool:
        """Inside a whole graph nobody hears of a layer."""
        return bool(extra_config.get("layer_wise", False))

    # -- worker --

    def get_mem_pool_context(self) -> Optional[AbstractContextManager[Any]]:
        device = self._vllm_config.device_config.device_type
        return SharedHostMemory() if device == "cpu" else None

    def register_kv_caches(self, kv_caches: "Dict[str, torch.Tensor]") -> None:
        model, cache = self._vllm_config.model_config, self._vllm_config.cache_config
        default = f"{model.model} {model.revision} {model.dtype} {cache.cache_dtype}"
        options = {name: self._settings[name] for name in _WORKER_OPTIONS if name in self._settings}
        self._worker = WorkerHalf(
            self._vllm_config,
            self._kv_cache_config,
            kv_caches,
            self._engine_id,
            self._settings.get("fingerprint", default),
            Waits(self._settings.get("lease", 480.0), self._settings.get("load_deadline", 120.0)),
            **options,
        )

    def get_handshake_metadata(self) -> Optional[KVConnectorHandshakeMetadata]:
        return RankAddress(self._worker.endpoint) if self._worker is not None else None

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        assert self._worker is not None and isinstance(kv_connector_metadata, StepMetadata)
        for request_id in kv_connector_metadata.preempted:
            self._worker.layers.withdraw(request_id)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        assert self._worker is not None and isinstance(connector_metadata, StepMetadata)
        self._worker.layers.begin(connector_metadata.chunks)

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        metadata = self._get_connector_metadata()
        assert self._worker is not None and isinstance(metadata, StepMetadata)
        self._worker.start(metadata)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Requests are not scheduled before all of their layers are there."""

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: "torch.Tensor",
        attn_metadata: "AttentionMetadata",
        **kwargs: Any,
    ) -> None:
        if self._layer_wise:
            assert self._worker is not None
            self._worker.layers.computed(layer_name)

    def wait_for_save(self) -> None:
        """Pages are sent from where they are; the scheduler keeps the blocks until they are."""
        assert self._worker is not None
        self._worker.layers.end()

    def get_transfer_results(self, finished_req_ids: Set[str]) -> KVConnectorTransferResults:
        assert self._worker is not None
        sent, received, failed = self._worker.results(finished_req_ids)
        return KVConnectorTransferResults(sent, received, failed)

    def build_connector_worker_meta(self) -> Optional[KVConnectorWorkerMetadata]:
        return self._worker.take_report() if self._worker is not None else None

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()

    # -- scheduler --

    def bind_kv_cache_manager(self, kv_cache_manager: "KVCacheManager") -> None:
        super().bind_kv_cache_manager(kv_cache_manager)
        self._scheduler.bind(kv_cache_manager)

    def set_xfer_handshake_metadata_pp_aware(
        self, metadata: Dict[Tuple[int, int], KVConnectorHandshakeMetadata]
    ) -> None:
        address = metadata[min(metadata)]  # every rank knows where rank 0's server is
        assert isinstance(address, RankAddress)
        self._scheduler.endpoint = address.endpoint

    def get_loaded_kv_cache_group_ids(self, request: "Request") -> Tuple[int, ...]:
        return self._kv_cache_config.transfer_group_ids

    def get_num_new_matched_tokens(
        self, request: "Request", num_computed_tokens: int
    ) -> Tuple[Optional[int], bool]:
        return self._scheduler.tokens_to_load(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int
    ) -> None:
        self._scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        return self._scheduler.take_step(scheduler_output)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        report = connector_output.kv_connector_worker_meta
        assert report is None or isinstance(report, StepReport)
        self._scheduler.reported(connector_output.finished_recving or set(), report)

    def request_finished(
        self, request: "Request", block_ids: List[int]
    ) -> Tuple[bool, Optional[Dict[str, Any]]]:
        return self.request_finished_all_groups(request, (block_ids,))

    def request_finished_all_groups(
        self, request: "Request", block_ids: Tuple[List[int], ...]
    ) -> Tuple[bool, Optional[Dict[str, Any]]]:
        complete = request.status in (
            RequestStatus.FINISHED_LENGTH_CAPPED,
            RequestStatus.FINISHED_STOPPED,
        )
        return self._scheduler.finished(request, block_ids, complete)

    def has_pending_push_work(self) -> bool:
        return self._scheduler.waits_for_proof
