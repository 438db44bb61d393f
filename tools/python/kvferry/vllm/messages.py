# SPDX-License-Identifier: Apache-2.0
"""What the connector's scheduler half and its worker halves tell each other, once per step."""

from collections import Counter
from dataclasses import dataclass, field
from typing import List, Tuple

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

Slots = Tuple[List[int], ...]
"""One list of block ids for each group that is transferred; NO_SLOT where there is no block."""


@dataclass(frozen=True)
class Send:
    request_id: str
    rid: int
    slots: Slots
    prompt_tokens: int


@dataclass(frozen=True)
class Chunk:
    """What a step computes of a prompt whose layers are sent one by one: tokens [begin, end), in these blocks."""

    request_id: str
    rid: int
    slots: Slots
    first_blocks: Tuple[int, ...]
    begin: int
    end: int
    prompt_tokens: int


@dataclass(frozen=True)
class Receive:
    request_id: str
    rid: int
    endpoint: str
    dp_rank: int
    slots: Slots
    prompt_tokens: int


@dataclass
class StepMetadata(KVConnectorMetadata):
    """Scheduler to workers."""

    sends: List[Send] = field(default_factory=list)
    chunks: List[Chunk] = field(default_factory=list)
    # Chunks of these were sent, and nothing will follow. Their blocks are lent until they are sent, unless the
    # request was preempted: then this step writes into them.
    given_up: List[str] = field(default_factory=list)
    preempted: List[str] = field(default_factory=list)
    receives: List[Receive] = field(default_factory=list)
    # Requests whose pages are being received, and which nobody wants any more.
    cancelled: List[str] = field(default_factory=list)
    # Requests that never got here what they promised to the other engine: it is told not to wait.
    not_sent: List[int] = field(default_factory=list)
    not_received: List[Receive] = field(default_factory=list)


@dataclass
class StepReport(KVConnectorWorkerMetadata):
    """Workers to scheduler: failed requests whose blocks may still be written, and those proven quiet.
    Counted, because each rank speaks for itself."""

    in_doubt: "Counter[str]" = field(default_factory=Counter)
    proven: "Counter[str]" = field(default_factory=Counter)

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "StepReport":
        assert isinstance(other, StepReport)
        return StepReport(self.in_doubt + other.in_doubt, self.proven + other.proven)


@dataclass
class RankAddress(KVConnectorHandshakeMetadata):
    """Worker to scheduler, once: where the instance is found."""

    endpoint: str
