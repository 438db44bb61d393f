# SPDX-License-Identifier: Apache-2.0
"""Takes the events of one worker, whoever waits, and tells its sessions."""

import asyncio
import contextlib
import ctypes
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional

from . import _abi
from .errors import Code, Error, State

if TYPE_CHECKING:
    from .session import Session

_KINDS = {
    _abi.EVENT_READY: "ready",
    _abi.EVENT_PIECE: "piece",
    _abi.EVENT_OUTCOME: "outcome",
    _abi.EVENT_RELEASED: "released",
    _abi.EVENT_LAYERS: "layers",
}
_CODES = {int(code): code for code in Code}
_STATES = {int(state): state for state in State}
_BATCH = 256

_all: "weakref.WeakSet[Dispatcher]" = weakref.WeakSet()


class Event(NamedTuple):
    """What a session tells, as Worker.poll() returns it."""

    kind: str  # "ready", "piece", "layers", "outcome", "released"
    session: "Session"
    rid: int
    code: Code
    state: State
    piece: int  # of "layers": all layers below this id are written; ALL_LAYERS
    aux: bool
    bytes: int
    elapsed_seconds: float
    text: str


class Dispatcher:
    """Thread-safe. Holds each session until it is released, whoever refers to it."""

    def __init__(self, worker: ctypes.c_void_p) -> None:
        self.lock = threading.Lock()  # of everything that events change, in sessions as well
        self._worker = worker
        self._sessions: Dict[int, "Session"] = {}
        self._last_number = 0
        self._closed = False
        self._events = (_abi.Event * _BATCH)()
        self._events[0].size = _abi.EVENT_BYTES
        self._taken = ctypes.c_size_t()
        self._call = (worker, ctypes.addressof(self._events), _BATCH, ctypes.byref(self._taken))
        # Each loop has a descriptor of its own: it may stop to use it after the worker has closed it.
        self._loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]"
        self._loops = weakref.WeakKeyDictionary()
        descriptor = ctypes.c_int()
        _abi.worker_event_fd(worker, ctypes.byref(descriptor))
        self.descriptor = descriptor.value
        _all.add(self)

    def add(self, session: "Session") -> int:
        """Before its first event. Returns the number that its events carry."""
        with self.lock:
            self._last_number += 1
            self._sessions[self._last_number] = session
            return self._last_number

    def drop(self, number: int) -> None:
        with self.lock:
            self._sessions.pop(number, None)

    @property
    def sessions_left(self) -> int:
        return len(self._sessions)

    def poll(self) -> List[Event]:
        """Takes all events that wait. Never blocks."""
        result: List[Event] = []
        self._take_all(result)
        return result

    def drain(self) -> None:
        """poll() for those whose sessions are awaited: who wants no events is made none."""
        self._take_all(None)

    def _take_all(self, result: Optional[List[Event]]) -> None:
        with self.lock:
            while not self._closed:
                if code := _abi.worker_events(*self._call):
                    raise _abi.failed(code)
                count: int = self._taken.value
                for index in range(count):
                    self._take(index, result)
                if count < _BATCH:
                    break

    def _take(self, index: int, result: Optional[List[Event]]) -> None:
        _, kind, handle, number, rid, code, state, piece, aux, bytes_, ns = _abi.unpack_event(
            self._events, index * _abi.EVENT_BYTES
        )
        session = self._sessions.get(number)
        if session is None:
            return
        session._told(kind, handle, piece)
        if kind == _abi.EVENT_RELEASED:
            del self._sessions[number]
        if result is not None:
            text = self._events[index].text.decode(errors="replace") if code else ""
            result.append(
                Event(
                    _KINDS.get(kind) or str(kind),
                    session,
                    rid,
                    _CODES[code] if code in _CODES else Code(code),
                    _STATES[state] if state in _STATES else State(state),
                    piece,
                    aux != 0,
                    bytes_,
                    ns / 1e9,
                    text,
                )
            )

    def wait(self, timeout: Optional[float]) -> bool:
        """Blocks, without the GIL, until an event waits. False: none came in this time."""
        try:
            _abi.worker_wait(self._worker, -1 if timeout is None else round(timeout * 1000))
        except Error as error:
            if error.code == Code.DEADLINE_EXCEEDED:
                return False
            raise
        return True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on events are taken whenever this loop, which is the running one, runs."""
        if loop in self._loops or self._closed:
            return
        descriptor = os.dup(self.descriptor)
        self._loops[loop] = weakref.finalize(loop, os.close, descriptor)
        loop.add_reader(descriptor, self.drain)

    def _unwatch(self, loop: asyncio.AbstractEventLoop, close: Any) -> None:
        loop.remove_reader(close.peek()[2][0])
        close()

    def give_up(self, error: Error) -> None:
        """What has not come never will."""
        with self.lock:
            for session in self._sessions.values():
                session._give_up(error)

    def close(self, free: Callable[[], None], reason: Error) -> None:
        """`free` ends the worker's handle: no event is taken afterwards."""
        for loop, close in list(self._loops.items()):
            try:
                loop.call_soon_threadsafe(self._unwatch, loop, close)
            except RuntimeError:  # it is closed, and has forgotten its descriptors
                close()
        with self.lock:
            self._closed = True
            free()
            for session in self._sessions.values():
                session._give_up(reason)
            self._sessions.clear()


def _in_child() -> None:
    """A lock that another thread held is held for ever; the library itself refuses the child by name."""
    for dispatcher in _all:
        dispatcher.lock = threading.Lock()


with contextlib.suppress(AttributeError):  # where there is fork
    os.register_at_fork(after_in_child=_in_child)
