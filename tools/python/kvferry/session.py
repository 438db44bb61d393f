# SPDX-License-Identifier: Apache-2.0
"""One request on one rank: what is sent or received, how it ended, when its slots are free."""

import array
import asyncio
import contextlib
import ctypes
import numbers
import time
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple, Union

from . import _abi
from .dispatcher import Dispatcher
from .errors import Code, Error, State

NO_SLOT = -1
"""A block that is not there: a prefix that the receiver has, or outside the window."""

Integers = Any
"""Slots: any one-dimensional buffer of integers (numpy, array, a torch tensor in host memory), or a list."""


@dataclass(frozen=True)
class Peer:
    """What one rank of the other instance contributed."""

    rank: int
    bytes: int
    fragments: int
    route: str  # "mapped", "direct: ..." with the reason for a worse one
    posting_seconds: float  # sending: from taking a slice to its first byte
    digests: int  # receiving: pieces that were compared


@dataclass(frozen=True)
class Aux:
    """The small record that goes with a request."""

    first_tokens: Sequence[int] = ()
    draft_tokens: Sequence[int] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    opaque: bytes = b""


@dataclass(frozen=True)
class Outcome:
    """How a session ended well; one that did not raises Error."""

    state: State
    bytes: int
    fragments: int
    peers: Tuple[Peer, ...]
    aux: Optional[Aux]  # receiving, with aux
    layers_skipped: Tuple[int, ...]
    roles_skipped: Tuple[str, ...]


def integers(values: Integers) -> "array.array[int]":
    """A copy as 32-bit numbers; a buffer of such is copied at once."""
    if hasattr(values, "data_ptr"):
        values = values.numpy()
    result = array.array("i")
    try:
        view = memoryview(values)
    except TypeError:
        result.extend(values)
        return result
    if view.ndim != 1:
        raise ValueError(f"slots have {view.ndim} dimensions, must be one")
    if view.format in ("i", "=i", "<i", "@i") and view.c_contiguous:
        result.frombytes(view.cast("B"))
    else:
        result.extend(view)
    return result


def _groups(slots: Any) -> List["array.array[int]"]:
    """One list for each layer group: a single one may stand for itself."""
    if (
        isinstance(slots, (list, tuple))
        and slots
        and not isinstance(slots[0], (int, numbers.Integral))
    ):
        return [integers(group) for group in slots]
    return [integers(slots)]


class Session:
    """What Tx and Rx have in common. Freed when nobody refers to it; it is kept until it is released."""

    def __init__(self, events: Dispatcher, rid: int, on_cuda: bool) -> None:
        self.rid = rid
        self._events = events
        self._on_cuda = on_cuda
        self._handle = ctypes.c_void_p()
        self._has_outcome = False
        self._is_released = False
        self._given_up: Optional[Error] = None
        self._waiters: List[Tuple[int, asyncio.AbstractEventLoop, "asyncio.Future[None]"]] = []
        self._held: List[Any] = []  # events of the host's streams, until released

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            with contextlib.suppress(Error):  # freed with its worker
                _abi.session_free(self._handle)

    # -- what is told, with the dispatcher's lock held --

    def _told(self, kind: int, handle: int) -> None:
        if not self._handle:  # the call that opens it has not returned yet
            self._handle.value = handle
        if kind == _abi.EVENT_OUTCOME:
            self._has_outcome = True
        elif kind == _abi.EVENT_RELEASED:
            self._is_released = True
            self._held.clear()
        self._wake(kind)

    def _give_up(self, error: Error) -> None:
        self._given_up = error
        self._wake(None)

    def _wake(self, kind: Optional[int]) -> None:
        """None: everybody."""
        if not self._waiters:
            return
        here = asyncio._get_running_loop()
        left = []
        for waiter in self._waiters:
            if kind is not None and waiter[0] != kind:
                left.append(waiter)
            elif waiter[1] is here:
                _finish(waiter[2])
            else:
                with contextlib.suppress(RuntimeError):  # its loop was closed
                    waiter[1].call_soon_threadsafe(_finish, waiter[2])
        self._waiters = left

    def _has(self, kind: int) -> bool:
        return self._is_released if kind == _abi.EVENT_RELEASED else self._has_outcome

    # -- waits --

    async def _await(self, kind: int) -> None:
        loop = asyncio.get_running_loop()
        future: "Optional[asyncio.Future[None]]" = None
        self._events.poll()  # it may be there already; and a forked child is told so
        self._events.watch(loop)
        with self._events.lock:
            if not self._has(kind) and self._given_up is None:
                future = loop.create_future()
                self._waiters.append((kind, loop, future))
        if future is not None:
            await future
        if not self._has(kind) and self._given_up is not None:
            raise self._given_up

    def _block(self, kind: int, timeout: Optional[float]) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not self._has(kind):
            # In steps, between which Python looks for signals.
            left = 0.2 if end is None else min(0.2, max(0.0, end - time.monotonic()))
            try:
                _abi.session_wait(self._handle, kind, int(left * 1000))
            except Error as error:
                if error.code != Code.DEADLINE_EXCEEDED or (
                    end is not None and time.monotonic() >= end
                ):
                    raise
            self._events.poll()

    async def outcome(self) -> Outcome:
        """How it ended, at the latest by its deadline. Its slots are not free yet: see released()."""
        await self._await(_abi.EVENT_OUTCOME)
        return self.result()

    async def released(self) -> None:
        """Returns when it is proven that nobody touches the session's slots any more."""
        await self._await(_abi.EVENT_RELEASED)

    def wait(self, timeout: Optional[float] = None) -> Outcome:
        """outcome() for a thread without an event loop."""
        self._block(_abi.EVENT_OUTCOME, timeout)
        return self.result()

    def wait_released(self, timeout: Optional[float] = None) -> None:
        self._block(_abi.EVENT_RELEASED, timeout)

    # -- state --

    @property
    def ended(self) -> bool:
        """Whether it has its outcome, as far as poll() or a wait has seen."""
        return self._has_outcome

    @property
    def is_released(self) -> bool:
        return self._is_released

    def result(self) -> Outcome:
        """The outcome; raises Error when the session failed, or has not ended."""
        outcome = _abi.Outcome()
        _abi.session_outcome(self._handle, outcome)
        if outcome.state == State.PENDING:
            raise Error(Code.INVALID_ARGUMENT, f"rid {self.rid} has no outcome yet")
        if outcome.code != 0:
            raise Error(outcome.code, outcome.text.decode(errors="replace"))
        return Outcome(
            State(outcome.state),
            outcome.bytes,
            outcome.fragments,
            tuple(self._peer(index) for index in range(outcome.peers)),
            self._aux() if outcome.state == State.FULLY_TRANSFERRED else None,
            (
                tuple(outcome.layers_skipped[: outcome.layers_skipped_count])
                if outcome.layers_skipped_count
                else ()
            ),
            tuple(role for role in outcome.roles_skipped.decode().split(",") if role),
        )

    def _peer(self, index: int) -> Peer:
        peer = _abi.Peer()
        _abi.session_peer(self._handle, index, peer)
        return Peer(
            peer.rank,
            peer.bytes,
            peer.fragments,
            peer.route.decode(errors="replace"),
            peer.posting_ns / 1e9,
            peer.digests,
        )

    def _aux(self) -> Optional[Aux]:
        return None

    def waits_for(self) -> str:
        """For people: what it waits for, and who must act."""
        room = ctypes.c_size_t(4096)
        text = ctypes.create_string_buffer(room.value)
        _abi.session_waits_for(self._handle, text, ctypes.byref(room))
        return text.value.decode(errors="replace")

    def cancel(self, why: str = "the host cancelled") -> None:
        """Gives it up; nothing happens when it has ended."""
        _abi.session_cancel(self._handle, why.encode())

    def _slice(
        self,
        slots: Any,
        prompt: int,
        tokens: Optional[Tuple[int, int]],
        more: bool,
        first_block: Union[int, Sequence[int]],
    ) -> Tuple[_abi.Slice, Any]:
        groups = _groups(slots)
        c_groups = (_abi.Slots * len(groups))()
        for index, group in enumerate(groups):
            address, count = group.buffer_info()
            first = first_block if isinstance(first_block, int) else first_block[index]
            c_groups[index] = _abi.Slots(first_block=first, slots=address, count=count)
        begin, end = tokens or (0, prompt)
        return (
            _abi.Slice(
                token_begin=begin,
                token_end=end,
                prompt_tokens=prompt,
                more=more,
                group_count=len(groups),
                groups=c_groups,
            ),
            groups,
        )

    def _wait_for(self, given: _abi.Slice, after: Any) -> None:
        """Nothing moves before this event, which is held until released()."""
        if after is None and self._on_cuda:
            after = _current_work()
        if after is not None:
            self._held.append(after)
            given.wait_for = getattr(after, "cuda_event", after)

    def __repr__(self) -> str:
        state = "released" if self._is_released else "ended" if self._has_outcome else "open"
        return f"<kvferry.{type(self).__name__} rid {self.rid}, {state}>"


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Tx(Session):
    """Sending side of one request on one context rank. One thread at a time drives it."""

    def send(
        self,
        slots: Any,
        *,
        prompt: int,
        tokens: Optional[Tuple[int, int]] = None,
        more: bool = False,
        first_block: Union[int, Sequence[int]] = 0,
        after: Any = None,
    ) -> None:
        """Lends these slots until released(): one list, or one for each layer group.

        `tokens`: which of the `prompt`'s tokens it is about, all when missing; `more`: further slices
        follow. `after`: a recorded CUDA event (torch.cuda.Event), before which nothing is read; for pages on a
        device, when missing, all work that the current stream of torch has now.
        """
        given, keeps = self._slice(slots, prompt, tokens, more, first_block)
        self._wait_for(given, after)
        _abi.session_send(self._handle, given)
        del keeps

    def send_aux(self, aux: Aux) -> None:
        """At most once, in a session that was opened with aux."""
        first, draft = integers(aux.first_tokens), integers(aux.draft_tokens)
        opaque = ctypes.create_string_buffer(bytes(aux.opaque), len(aux.opaque) or 1)
        _abi.session_send_aux(
            self._handle,
            _abi.Aux(
                prompt_tokens=aux.prompt_tokens,
                cached_tokens=aux.cached_tokens,
                first_tokens=first.buffer_info()[0],
                first_token_count=len(first),
                draft_tokens=draft.buffer_info()[0],
                draft_token_count=len(draft),
                opaque=ctypes.addressof(opaque),
                opaque_bytes=len(aux.opaque),
            ),
        )


class Rx(Session):
    """Receiving side of one request on one generation rank."""

    def receive(
        self,
        slots: Any,
        *,
        prompt: int,
        tokens: Optional[Tuple[int, int]] = None,
        more: bool = False,
        first_block: Union[int, Sequence[int]] = 0,
        after: Any = None,
    ) -> None:
        """Lends these slots, to be written, until released(). Arguments as in Tx.send.

        `after`: no slot is written before it; for pages on a device, when missing, all work that the current
        stream of torch has now, since kernels that are queued may still read what the slots held.
        """
        given, keeps = self._slice(slots, prompt, tokens, more, first_block)
        self._wait_for(given, after)
        _abi.session_receive(self._handle, given)
        del keeps

    def _aux(self) -> Optional[Aux]:
        aux = _abi.Aux()
        _abi.session_aux(self._handle, aux)

        def numbers(address: Optional[int], count: int) -> Tuple[int, ...]:
            return (
                tuple((ctypes.c_int32 * count).from_address(address)) if address and count else ()
            )

        return Aux(
            numbers(aux.first_tokens, aux.first_token_count),
            numbers(aux.draft_tokens, aux.draft_token_count),
            aux.prompt_tokens,
            aux.cached_tokens,
            ctypes.string_at(aux.opaque, aux.opaque_bytes) if aux.opaque_bytes else b"",
        )


def _current_work() -> Any:
    """An event behind all work of torch's current stream; None without torch on CUDA."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    event = torch.cuda.Event()
    event.record()
    return event
