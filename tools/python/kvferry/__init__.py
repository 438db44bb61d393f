# SPDX-License-Identifier: Apache-2.0
"""Moves the KV cache of a request from the ranks that prefilled it to the ranks that will decode it.

    pages = kvferry.Pages.from_tensors(
        [kvferry.Tensor(cache, "kv block token head dim", layers=layer, heads=8)
         for layer, cache in enumerate(kv_caches)], kvferry.Parallelism([len(kv_caches)]))
    with kvferry.Worker("decode-0", pages) as worker:
        rx = worker.receive(rid, slots, prompt=prompt_tokens, source=prefill_endpoint)
        outcome = await rx.outcome()    # once, at the latest by the deadline; raises Error
        await rx.released()             # the slots are yours again: proven, not timed out

Whoever sends calls worker.send(rid, slots, prompt=...) in the process whose worker.endpoint this is.
"""

from ._abi import version as __version__
from .dispatcher import Event
from .errors import Code, Error, State
from .memory import DeviceMemory, Memory
from .pages import Pages, Parallelism, Tensor
from .session import ALL_LAYERS, NO_SLOT, Aux, Outcome, Peer, Rx, Session, Tx, Wanted
from .worker import Directory, Statistics, Worker


def set_log_level(level: str) -> None:
    """ "trace", "debug", "info", "warn", "error" (the default), "critical", "off"; to standard error."""
    from . import _abi

    _abi.log_level(level.encode())


def rid_of(name: str) -> int:
    """The rid of a request that has a text for a name: the same on both sides, and in every release."""
    from . import _abi

    text = name.encode()
    return int(_abi.rid_of(text, len(text)))


__all__ = [
    "ALL_LAYERS",
    "NO_SLOT",
    "Aux",
    "Code",
    "Directory",
    "Error",
    "Event",
    "DeviceMemory",
    "Memory",
    "Outcome",
    "Pages",
    "Parallelism",
    "Peer",
    "Rx",
    "Session",
    "State",
    "Statistics",
    "Tensor",
    "Tx",
    "Wanted",
    "Worker",
    "__version__",
    "rid_of",
    "set_log_level",
]
