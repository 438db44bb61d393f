# SPDX-License-Identifier: Apache-2.0
"""A request on the sending and on the receiving side, polled by SGLang's scheduler.

Tokens are counted in whole pages: SGLang pairs engines of one page size, and what is behind a prompt's end in
its last page is never read.
"""

import time
from typing import TYPE_CHECKING, Any, Callable, List, Optional

from sglang.srt.disaggregation.base.conn import (
    BaseKVReceiver,
    BaseKVSender,
    KVPoll,
    KVTransferDestination,
    KVTransferMetric,
)

from ..errors import Code, Error
from ..session import NO_SLOT, Aux, Outcome, Session, Tx
from .manager import KvferryKVManager

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class KVTransferError(Exception):
    def __init__(self, bootstrap_room: int, reason: str) -> None:
        super().__init__(f"room {bootstrap_room}: {reason}")
        self.bootstrap_room = bootstrap_room
        self.failure_reason = reason


class _Request:
    """What both sides have in common."""

    def __init__(self, manager: KvferryKVManager, room: int) -> None:
        self.kv_mgr = manager
        self.bootstrap_room = room
        self.conclude_state: Optional[int] = None
        self._reason = ""
        self._session: Optional[Session] = None
        self._given_at: Optional[float] = None
        self._metric = KVTransferMetric()

    def _conclude(self) -> Optional[int]:
        """Success or Failed, once the session has its outcome and its pages are released."""
        session = self._session
        if session is None or not session.ended or not session.is_released:
            return None
        if self._given_at is not None:
            self._metric.transfer_latency_s = time.perf_counter() - self._given_at
        try:
            outcome = session.result()
        except Error as error:
            return self._fail(str(error))
        self._metric.transfer_total_bytes = outcome.bytes
        self._succeeded(outcome)
        self.conclude_state = KVPoll.Success
        return KVPoll.Success

    def _succeeded(self, outcome: Outcome) -> None:
        """What is left to do."""

    def _fail(self, reason: str) -> int:
        self._reason = self._reason or reason
        self.conclude_state = KVPoll.Failed
        return KVPoll.Failed

    def failure_exception(self) -> None:
        raise KVTransferError(self.bootstrap_room, self._reason or "it has not failed")

    def abort(self) -> None:
        self._reason = self._reason or "aborted by SGLang"
        if self._session is None:
            self._fail(self._reason)
        else:
            self._session.cancel(self._reason)

    def get_transfer_metric(self) -> KVTransferMetric:
        return self._metric

    def _give(self, call: Callable[[], None]) -> None:
        self._given_at = self._given_at or time.perf_counter()
        try:
            call()
        except Error as error:
            if error.code != Code.GONE:  # it has ended already, and says why
                raise


class KvferryKVSender(_Request, BaseKVSender):
    def __init__(
        self,
        mgr: KvferryKVManager,
        bootstrap_addr: str,
        bootstrap_room: int,
        req_has_disagg_prefill_dp_rank: bool = False,
    ) -> None:
        _Request.__init__(self, mgr, bootstrap_room)
        self._session: Tx = mgr.worker.open_tx(bootstrap_room, aux=True, tell_ready=True)
        self._pages = self._sent_pages = 0
        self._aux_index: Optional[int] = None

    def init(self, num_kv_indices: int, aux_index: Optional[int] = None) -> None:
        self._pages, self._aux_index = num_kv_indices, aux_index

    def send(
        self,
        kv_indices: "npt.NDArray[np.int32]",
        state_indices: Optional[List[Any]] = None,
        num_kv_tokens: Optional[int] = None,
    ) -> None:
        """A chunk of the prompt's pages. The last takes the aux buffers along."""
        first, size = self._sent_pages, self.kv_mgr.kv_args.page_size
        self._sent_pages = end = first + len(kv_indices)
        self._give(
            lambda: self._session.send(
                kv_indices,
                prompt=self._pages * size,
                tokens=(first * size, end * size),
                first_block=first,
                more=end < self._pages,
            )
        )
        if end == self._pages:
            index = self._aux_index
            record = b"" if index is None else self.kv_mgr.read_aux(index)
            self._give(lambda: self._session.send_aux(Aux(opaque=record)))

    def poll(self) -> int:
        self.kv_mgr.take_events()
        if self.conclude_state is not None:
            return self.conclude_state
        if (end := self._conclude()) is not None:
            return end
        if self._given_at is not None or self._session.ended:
            return KVPoll.Transferring
        ready = self.kv_mgr.is_asked_for(self.bootstrap_room)
        return KVPoll.WaitingForInput if ready else KVPoll.Bootstrapping

    def clear(self) -> None:
        self.kv_mgr.forgets(self.bootstrap_room)


class KvferryKVReceiver(_Request, BaseKVReceiver):
    require_staging = False

    def __init__(
        self, mgr: KvferryKVManager, bootstrap_addr: str, bootstrap_room: Optional[int] = None
    ) -> None:
        assert bootstrap_room is not None
        _Request.__init__(self, mgr, bootstrap_room)
        self.bootstrap_infos: List[Any] = []
        self.abort_notified = False
        self._address = bootstrap_addr
        self._dp_rank: Optional[int] = None
        self._endpoint: Optional[str] = None
        self._aux_index: Optional[int] = None

    def init(self, prefill_dp_rank: int) -> None:
        self._dp_rank = prefill_dp_rank

    def send_metadata(
        self,
        kv_indices: "npt.NDArray[np.int32]",
        aux_index: Optional[int] = None,
        state_indices: Optional[List[Any]] = None,
        decode_prefix_len: Optional[int] = None,
        destination: KVTransferDestination = KVTransferDestination.DEVICE,
    ) -> None:
        """Lends these pages, behind those of a prefix that this engine has."""
        assert self._endpoint is not None, "poll() has not said WaitingForInput"
        self._aux_index = aux_index
        size = self.kv_mgr.kv_args.page_size
        slots = [NO_SLOT] * ((decode_prefix_len or 0) // size) + kv_indices.tolist()
        session = self.kv_mgr.worker.open_rx(self.bootstrap_room, self._endpoint, aux=True)
        self._session = session
        self.kv_mgr.receives(self.bootstrap_room, session)
        self._give(lambda: session.receive(slots, prompt=len(slots) * size))

    def _fail(self, reason: str) -> int:
        if self._dp_rank is not None:  # it may be found elsewhere from now on
            self.kv_mgr.forget_endpoint(self._address, self._dp_rank)
        return super()._fail(reason)

    def _succeeded(self, outcome: Outcome) -> None:
        if self._aux_index is not None and outcome.aux is not None:
            self.kv_mgr.write_aux(self._aux_index, outcome.aux.opaque)

    def poll(self) -> int:
        self.kv_mgr.take_events()
        if self.conclude_state is not None:
            return self.conclude_state
        if self._session is not None:
            end = self._conclude()
            return KVPoll.Transferring if end is None else end
        if self._endpoint is None and self._dp_rank is not None:
            try:
                self._endpoint = self.kv_mgr.endpoint_of(self._address, self._dp_rank)
            except OSError as error:
                return self._fail(f"the bootstrap server {self._address}: {error}")
        return KVPoll.Bootstrapping if self._endpoint is None else KVPoll.WaitingForInput

    def abort(self) -> None:
        self.abort_notified = self._session is not None
        super().abort()

    def ensure_abort_notified(self, *, force_arm: bool = False) -> None:
        if not self.abort_notified:
            self.abort()

    def is_abort_release_safe(self) -> bool:
        return self.kv_mgr.is_abort_release_safe(self.bootstrap_room)

    def clear(self) -> None:
        """Pages that are still on loan stay known to is_abort_release_safe() until they are not."""
        if self.is_abort_release_safe():
            self.kv_mgr.forgets(self.bootstrap_room)
