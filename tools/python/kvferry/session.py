# SPDX-License-Identifier: Apache-2.0
"""One request on one rank: what is sent or received, how it ended, when its slots are free."""

import array
import asyncio
import contextlib
import ctypes
import numbers
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

from . import _abi
from .dispatcher import Dispatcher
from .errors import Code, Error, State

ALL_LAYERS = (1 << 32) - 1
"""Rx.layers_end when every layer is written."""

NO_SLOT = -1
"""A block that is not there: a prefix that the receiver has, or outside the window."""

_WAYS = ("", "mapped", "direct", "staged")

Integers = Any
"""Slots: any one-dimensional buffer of integers (numpy, array, a torch tensor in host memory), or a list."""


@dataclass(frozen=True)
class Peer:
    """What one rank of the other instance contributed."""

    rank: int
    bytes: int
    fragments: int
    route: str  # for people: "mapped", "direct: ..." with the reason for a worse one
    posting_seconds: float  # sending: from taking a slice to its first byte
    digests: int  # receiving: pieces that were compared
    way: str = ""  # "mapped", "direct", "staged"; "" if it had no bytes to bring


@dataclass(frozen=True)
class Wanted:
    """What the receivers of a sending session want."""

    receivers: int  # ranks that want KV bytes; 0 before they have asked
    prompt_tokens: int
    prefix_tokens: int  # which all of them have already
    blocks: int  # of all ranks, each in blocks of its own size


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
    """As 32-bit numbers: an array of such itself, a copy of everything else."""
    if type(values) is array.array and values.typecode == "i":
        return values
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
    if type(slots) is array.array:
        return [integers(slots)]
    if (
        isinstance(slots, (list, tuple))
        and slots
        and not isinstance(slots[0], (int, numbers.Integral))
    ):
        return [integers(group) for group in slots]
    return [integers(slots)]


class Session:
    """What Tx and Rx have in common. Freed when nobody refers to it; it is kept until it is released."""

    # As it begins; a session sets its own when something happens.
    _has_outcome = False
    _is_released = False
    _layers_end = 0
    _given_up: Optional[Error] = None
    _waiters: Sequence[Tuple[int, asyncio.AbstractEventLoop, "asyncio.Future[None]"]] = ()
    _held: Sequence[Any] = ()  # events of the host's streams, until released

    def __init__(self, events: Dispatcher, rid: int, on_cuda: bool) -> None:
        self.rid = rid
        self._events = events
        self._on_cuda = on_cuda
        self._handle = ctypes.c_void_p()

    def __del__(self, free: Any = _abi.quiet(_abi.session_free)) -> None:
        free(getattr(self, "_handle", None))

    # -- what is told, with the dispatcher's lock held --

    def _told(self, kind: int, handle: int, piece: int) -> None:
        if not self._handle:  # the call that opens it has not returned yet
            self._handle.value = handle
        if kind == _abi.EVENT_OUTCOME:
            self._has_outcome = True
        elif kind == _abi.EVENT_RELEASED:
            self._is_released = True
            self._held = ()
        elif kind == _abi.EVENT_LAYERS:
            self._layers_end = piece
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
            # The outcome ends a wait for layers, too.
            layers = waiter[0] == _abi.EVENT_LAYERS and kind == _abi.EVENT_OUTCOME
            if kind is not None and waiter[0] != kind and not layers:
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

    async def _await(self, kind: int, come: Optional[Callable[[], bool]] = None) -> None:
        """`come`: of a kind that is told more than once; then the outcome ends the wait as well."""
        loop = asyncio.get_running_loop()
        future: "Optional[asyncio.Future[None]]" = None
        self._events.drain()  # it may be there already; and a forked child is told so
        self._events.watch(loop)
        with self._events.lock:
            there = self._has(kind) if come is None else self._has_outcome or come()
            if not there and self._given_up is None:
                future = loop.create_future()
                self._waiters = [*self._waiters, (kind, loop, future)]
        if future is not None:
            await future
        there = self._has(kind) if come is None else self._has_outcome or come()
        if not there and self._given_up is not None:
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
            self._events.drain()

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
            _WAYS[peer.way],
        )

    def _aux(self) -> Optional[Aux]:
        return None

    def waits_for(self) -> str:
        """For people: what it waits for, and who must act."""
        room = ctypes.c_size_t(4096)
        text = ctypes.create_string_buffer(room.value)
        _abi.session_waits_for(self._handle, text, ctypes.byref(room))
        return text.value.decode(errors="replace")

    def extend(self, seconds: float) -> None:
        """Renews a lease: it does not end by itself before this time, whichever of its deadlines runs.

        The other side extends its own; only a sending session whose receiver has no slots yet lives on by
        itself. Error GONE: it has its outcome. LIMIT_EXCEEDED: it would be older than `session_age_max`.
        """
        _abi.session_extend(self._handle, round(seconds * 1000))

    def slots_in_doubt(self) -> List[List[int]]:
        """By layer group, the slots that somebody may still read (Tx) or write (Rx).

        Before the outcome all that were lent; after a failure those to keep out of reuse until released().
        Blocks for one round trip through the rank. An Error other than GONE: nobody can say it, all are.
        """
        room = ctypes.c_size_t(0)
        groups, slots = (ctypes.c_uint32 * 0)(), (ctypes.c_int32 * 0)()
        while True:
            try:
                _abi.session_slots_in_doubt(self._handle, groups, slots, ctypes.byref(room))
                break
            except Error as error:
                if error.code != Code.LIMIT_EXCEEDED:
                    raise
            groups, slots = (ctypes.c_uint32 * room.value)(), (ctypes.c_int32 * room.value)()
        count = room.value
        result: List[List[int]] = [[] for _ in range(max(groups[:count], default=-1) + 1)]
        for group, slot in zip(groups[:count], slots[:count]):
            result[group].append(slot)
        return result

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
        after: Any,
        layers: Tuple[int, int] = (0, 0),
    ) -> Tuple[bytes, Any]:
        """A packed kvf_slice, and what its addresses lead to."""
        groups = _groups(slots)
        listed = array.array("Q")  # whose items say nothing: bytes with an address
        for index, group in enumerate(groups):
            address, count = group.buffer_info()
            first = first_block if isinstance(first_block, int) else first_block[index]
            listed.frombytes(_abi.pack_slots(_abi.SLOTS_BYTES, first, address, count))
        begin, end = tokens or (0, prompt)
        return (
            _abi.pack_slice(
                _abi.SLICE_BYTES,
                begin,
                end,
                prompt,
                more,
                len(groups),
                listed.buffer_info()[0],
                self._wait_for(after),
                0,
                *layers,
            ),
            (groups, listed),
        )

    def _wait_for(self, after: Any) -> int:
        """Nothing moves before this event, which is held until released(). 0: there is none."""
        if after is None and self._on_cuda:
            after = _current_work()
        if after is None:
            return 0
        self._held = [*self._held, after]
        return int(getattr(after, "cuda_event", after))

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
        layers: Optional[Tuple[int, int]] = None,
        more: bool = False,
        first_block: Union[int, Sequence[int]] = 0,
        after: Any = None,
    ) -> None:
        """Lends these slots until released(): one list, or one for each layer group.

        `tokens`, `layers`: which of the `prompt`'s tokens, [begin, end), and which global layers it is
        about, all when missing, in any order; `more`: further slices follow. `after`: a recorded CUDA
        event (torch.cuda.Event), before which nothing is read; for pages on a device, when missing, all
        work that the current stream of torch has now.
        """
        given, keeps = self._slice(
            slots, prompt, tokens, more, first_block, after, layers or (0, 0)
        )
        if code := _abi.session_send(self._handle, given):
            raise _abi.failed(code)
        del keeps

    @property
    def wanted(self) -> Wanted:
        """What its receivers want, once an event of kind "ready" has come (`tell_ready`)."""
        answer = _abi.Wanted()
        _abi.session_wanted(self._handle, answer)
        return Wanted(answer.receivers, answer.prompt_tokens, answer.prefix_tokens, answer.blocks)

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

    @property
    def layers_end(self) -> int:
        """All layers below this global id are written, as far as poll() or a wait has seen."""
        return ALL_LAYERS if self._succeeded() else self._layers_end

    async def layers(self, end: int) -> None:
        """Returns when all layers below `end` are written, in a session with `tell_layers`.

        So decoding may begin with them, behind the session's last receive(). Raises Error when it fails.
        """
        while self.layers_end < end:
            if self._has_outcome:
                self.result()
            await self._await(_abi.EVENT_LAYERS, lambda: self.layers_end >= end)

    def wait_layers(self, end: int, timeout: Optional[float] = None) -> None:
        """layers() for a thread without an event loop. Error DEADLINE_EXCEEDED: not in `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.layers_end < end:
            if self._has_outcome:
                self.result()
            left = None if until is None else max(0.0, until - time.monotonic())
            # In steps: another thread may take the event.
            self._events.wait(0.05 if left is None else min(0.05, left))
            self._events.drain()
            if left == 0.0 and self.layers_end < end and not self._has_outcome:
                raise Error(
                    Code.DEADLINE_EXCEEDED, f"rid {self.rid} has layers below {self.layers_end}"
                )

    def _succeeded(self) -> bool:
        if not self._has_outcome:
            return False
        try:
            self.result()
        except Error:
            return False
        return True

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
        given, keeps = self._slice(slots, prompt, tokens, more, first_block, after)
        if code := _abi.session_receive(self._handle, given):
            raise _abi.failed(code)
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
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    event = torch.cuda.Event()
    event.record()
    return event
