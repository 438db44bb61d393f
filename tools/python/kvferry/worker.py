# SPDX-License-Identifier: Apache-2.0
"""One rank of an instance inside a Python process."""

import asyncio
import atexit
import contextlib
import ctypes
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Type, TypeVar

from . import _abi
from .dispatcher import Dispatcher, Event
from .errors import Code, Error
from .pages import Pages, Parallelism
from .session import Aux, Rx, Session, Tx

_ROUTES = {"auto": 0, "mapped": 1, "direct": 2, "staged": 3}
_DIGESTS = {"off": 0, "wire": _abi.WIRE_DIGESTS, "memory": _abi.DIGESTS}
_ROLES = {"any": 0, "context": 1, "generation": 2}
_living: "Set[Worker]" = set()
"""Until they are closed, whoever refers to them: they use the memory that they have published."""
_kept: List[Any] = []
"""Memory of workers that stopped without proof: it is never freed."""

_SOURCES_MAX = 256

_AnySession = TypeVar("_AnySession", bound=Session)


@dataclass(frozen=True)
class Directory:
    """Where instances are listed by name: etcd. What is empty is taken from the environment (KVFERRY_ETCD, ...).

    `endpoints`: URLs of the members, with commas between. Where etcd has users, `user` asks, with the password
    in a file that nobody else may read. A listing lives for `lease` seconds without its rank 0.
    """

    endpoints: str = ""
    prefix: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password_file: str = ""
    lease: int = 10

    def _c(self) -> _abi.Directory:
        return _abi.Directory(
            lease_seconds=self.lease,
            endpoints=_text(self.endpoints),
            prefix=_text(self.prefix),
            ca_file=_text(self.ca_file),
            cert_file=_text(self.cert_file),
            key_file=_text(self.key_file),
            user=_text(self.user),
            password_file=_text(self.password_file),
        )


@dataclass(frozen=True)
class Statistics:
    sessions_opened: int
    sessions_finished: int
    sessions_live: int
    sessions_quarantined: int  # with an outcome, without proof that their slots are free
    links_live: int
    events_waiting: int
    handler_failures: int  # bugs of kvferry
    sessions_succeeded: int
    sessions_failed: Mapping[Code, int]  # by reason
    waited_seconds: float  # of those that succeeded, added up: to the first piece,
    transferred_seconds: float  # and from there to the outcome


def _milliseconds(seconds: Optional[float]) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _priority(name: Optional[str]) -> int:
    try:
        return _abi.PRIORITIES[name]
    except KeyError:
        raise ValueError(f"priority is {name!r}: it is 'high', 'normal', 'low' or None") from None


def _text(value: str) -> Optional[bytes]:
    return value.encode() if value else None


def _role(name: str) -> int:
    if name not in _ROLES:
        raise ValueError(f"role is {name!r}, it must be one of {', '.join(_ROLES)}")
    return _ROLES[name]


class Worker:
    """A running rank: publishes pages, opens sessions. Thread-safe; a context manager that closes it.

    Events of its sessions are taken by poll(), which every await and every wait calls; an engine's own
    loop calls poll() itself, when fileno() is readable or once per step.
    """

    def __init__(
        self,
        instance: str,
        pages: Optional[Pages] = None,
        *,
        place: Optional[Parallelism] = None,
        bind_address: str = "",
        port: int = 0,
        info_endpoint: str = "",
        info_server: bool = True,
        advertise: str = "",
        fingerprint: str = "",
        host_link_folder: str = "",
        route: str = "auto",
        same_host_link: bool = True,
        digests: str = "off",
        devices: Sequence[int] = (),
        multiprocessors: int = 0,
        copy_threads: int = 0,
        sessions_max: int = 0,
        events_max: int = 0,
        session_deadline: Optional[float] = None,
        transfer_deadline: Optional[float] = None,
        info_deadline: Optional[float] = None,
        stop_deadline: float = 10.0,
        session_age_max: Optional[float] = None,
        session_keep_interval: Optional[float] = None,
        secret_file: str = "",
        insecure: bool = False,
        plain_bulk: bool = False,
        relay: bool = False,
        directory: Optional[Directory] = None,
        role: str = "any",
    ) -> None:
        """Starts the rank, and publishes `pages` when they are given. Times are in seconds.

        `place` may be missing when the pages say it. `info_endpoint`: for ranks > 0, rank 0's
        `endpoint`; without `info_server` no rank has one, and local_info() and add_instance() take its
        place. A rank that other machines reach needs the deployment's secret (`secret_file`, else
        KVFERRY_SECRET_FILE), or `insecure`. With a `directory` rank 0 lists its instance there, for its `role`
        ("any", "context", "generation"), and a `source` may be "etcd:instance". What else there is, kvferry.h explains under the same names.
        """
        place = place or (pages.place if pages is not None else None)
        if place is None:
            raise ValueError("give the place of the rank, or its pages")
        if digests not in _DIGESTS:
            raise ValueError(f"digests is {digests!r}, it must be one of {', '.join(_DIGESTS)}")
        if route not in _ROUTES:
            raise ValueError(f"route is {route!r}, it must be one of {', '.join(_ROUTES)}")
        self.instance = instance
        self._stop_deadline = stop_deadline
        self._pages: List[Pages] = []
        self._on_cuda = False
        self._sources: Dict[Tuple[str, Optional[int]], Tuple[bytes, Any]] = {}
        c_devices = (ctypes.c_int32 * len(devices))(*devices)
        c_place = place._c()
        c_directory = (directory or Directory())._c()
        options = _abi.WorkerOptions(
            instance=instance.encode(),
            place=ctypes.pointer(c_place),
            bind_address=_text(bind_address),
            info_endpoint=_text(info_endpoint),
            advertise=_text(advertise),
            fingerprint=_text(fingerprint),
            host_link_folder=_text(host_link_folder),
            port=port,
            route=_ROUTES[route],
            devices=c_devices,
            device_count=len(devices),
            flags=(0 if same_host_link else _abi.NO_SAME_HOST_LINK)
            | _DIGESTS[digests]
            | (0 if info_server else _abi.NO_INFO_SERVER)
            | (_abi.INSECURE if insecure else 0)
            | (_abi.PLAIN_BULK if plain_bulk else 0)
            | (_abi.RELAY if relay else 0),
            multiprocessors=multiprocessors,
            copy_threads=copy_threads,
            sessions_max=sessions_max,
            events_max=events_max,
            session_deadline_ms=_milliseconds(session_deadline),
            transfer_deadline_ms=_milliseconds(transfer_deadline),
            info_deadline_ms=_milliseconds(info_deadline),
            stop_deadline_ms=_milliseconds(stop_deadline),
            session_age_max_ms=_milliseconds(session_age_max),
            session_keep_interval_ms=_milliseconds(session_keep_interval),
            secret_file=_text(secret_file),
            directory=ctypes.pointer(c_directory),
            role=_role(role),
        )
        self._handle = ctypes.c_void_p()
        self._closed = False
        _abi.worker_start(options, ctypes.byref(self._handle))
        self._events = Dispatcher(self._handle)
        _living.add(self)
        if pages is not None:
            try:
                self.publish(pages)
            except BaseException:
                self.close()
                raise

    def publish(self, pages: Pages) -> None:
        """Registers the memory and publishes the rank. The worker holds it until unpublish() or its stop."""
        self._pages.append(pages)  # first: a failure may have registered some of it
        self._on_cuda = self._on_cuda or pages.on_cuda
        _abi.worker_publish(self._handle, pages._regions, len(pages._regions), pages._handle)

    def unpublish(self, deadline: float = 10.0) -> None:
        """Takes the memory back: afterwards it may be freed, and other pages published. Blocks.

        Waits until no session is left; Error DEADLINE_EXCEEDED names one that is, and nothing has changed then.
        """
        _abi.worker_unpublish(self._handle, _milliseconds(deadline))
        self._pages.clear()
        self._on_cuda = False

    def connect(self, source: str, *, dp_rank: Optional[int] = 0, deadline: float = 10.0) -> None:
        """Makes the links to the ranks at `source` before the first request waits for them. Blocks."""
        where = _abi.Source(endpoint=source.encode(), dp_rank=-1 if dp_rank is None else dp_rank)
        _abi.worker_connect(self._handle, where, _milliseconds(deadline))

    def local_info(self) -> bytes:
        """This rank's info, for an engine that carries infos over a channel of its own; it changes with publish().

        Whoever has it can dial the rank. Blocks for one round trip through the rank.
        """
        room = ctypes.c_size_t(1 << 16)
        while True:
            info = ctypes.create_string_buffer(room.value)
            try:
                _abi.worker_info(self._handle, info, ctypes.byref(room))
                return info.raw[: room.value]
            except Error as error:
                if error.code != Code.LIMIT_EXCEEDED or room.value <= len(info):
                    raise

    def add_instance(self, infos: Sequence[bytes]) -> str:
        """All ranks of an instance, from the local_info() of each. Returns the `source` to receive from it.

        The same instance again takes the place of what was known: so a restarted rank is made known. A rank
        without info server needs the infos of its own instance as well, unless it is alone. Error
        MALFORMED_MESSAGE, PROTOCOL_MISMATCH, DUPLICATE, INSTANCE_INCOMPLETE: nothing has changed then.
        """
        given = (_abi.Bytes * len(infos))(
            *(_abi.Bytes(data=bytes(info), bytes=len(info)) for info in infos)
        )
        room = ctypes.c_size_t(4096)
        address = ctypes.create_string_buffer(room.value)
        _abi.worker_add_instance(self._handle, given, len(infos), address, ctypes.byref(room))
        return address.value.decode()

    def remove_instance(self, source: str) -> None:
        """Forgets an instance that was added; sessions with it go on."""
        _abi.worker_remove_instance(self._handle, source.encode())

    def set_role(self, role: str) -> None:
        """Lists the instance for something else from now on; sessions go on.

        Error UNSUPPORTED: it is not listed anywhere, or this is not rank 0.
        """
        _abi.worker_set_role(self._handle, _role(role))

    @property
    def on_cuda(self) -> bool:
        return self._on_cuda

    @property
    def endpoint(self) -> str:
        """ "host:port" under which other instances, and ranks > 0 of this one, find this instance.

        Without info server "@instance", which means something only where add_instance() was told of it.
        """
        room = ctypes.c_size_t(512)
        text = ctypes.create_string_buffer(room.value)
        _abi.worker_endpoint(self._handle, text, ctypes.byref(room))
        return text.value.decode()

    @property
    def memory_routes(self) -> Tuple[str, ...]:
        """How writers of this machine will reach the memory that is published, before any has tried.

        One text per stretch of memory that the pages lie in: "mapped", or "direct: ...", "staged: ..." with the reason for the
        longer way. The route of each transfer is told with its outcome. Blocks for one round trip through
        the rank.
        """
        regions = len(self._pages[-1]._regions) if self._pages else 0
        return tuple(self._memory_route(region) for region in range(regions))

    def _memory_route(self, region: int) -> str:
        room = ctypes.c_size_t(1024)
        text = ctypes.create_string_buffer(room.value)
        _abi.worker_memory_route(self._handle, region, text, ctypes.byref(room))
        return text.value.decode(errors="replace")

    def statistics(self) -> Statistics:
        answer = _abi.Statistics()
        _abi.worker_statistics(self._handle, answer)
        return Statistics(
            answer.sessions_opened,
            answer.sessions_finished,
            answer.sessions_live,
            answer.sessions_quarantined,
            answer.links_live,
            answer.events_waiting,
            answer.handler_failures,
            answer.sessions_succeeded,
            {Code(code): count for code, count in enumerate(answer.sessions_failed) if count > 0},
            answer.waited_ns / 1e9,
            answer.transferred_ns / 1e9,
        )

    # -- sessions --

    def _open(
        self,
        kind: Type[_AnySession],
        rid: int,
        flags: int,
        deadline: Optional[float],
        transfer_deadline: Optional[float],
        source: Optional[Tuple[bytes, Any]],
    ) -> _AnySession:
        if not 0 <= rid < 1 << 63:
            raise ValueError(f"rid is {rid}, it must be from 0 to 2^63 - 1")
        session = kind(self._events, rid, self._on_cuda)
        number = self._events.add(session)
        try:
            options = _abi.pack_session_options(
                _abi.SESSION_OPTIONS_BYTES,
                flags,
                rid,
                number,
                _milliseconds(deadline),
                _milliseconds(transfer_deadline),
            )
            handle = ctypes.byref(session._handle)
            if source is None:
                code = _abi.worker_open_tx(self._handle, options, handle)
            else:
                code = _abi.worker_open_rx(self._handle, options, source[0], handle)
            if code:
                raise _abi.failed(code)
        except BaseException:
            self._events.drop(number)
            raise
        return session

    def _source(self, endpoint: str, dp_rank: Optional[int]) -> Tuple[bytes, Any]:
        """A packed kvf_source and the text that it leads to. The last ones are kept."""
        known = self._sources.get((endpoint, dp_rank))
        if known is None:
            text = ctypes.create_string_buffer(endpoint.encode())
            rank = -1 if dp_rank is None else dp_rank
            known = _abi.pack_source(_abi.SOURCE_BYTES, rank, ctypes.addressof(text)), text
            if (
                len(self._sources) >= _SOURCES_MAX
            ):  # a new table: another thread may use the old one
                self._sources = {}
            self._sources[(endpoint, dp_rank)] = known
        return known

    def open_tx(
        self,
        rid: int,
        *,
        aux: bool = False,
        deadline: Optional[float] = None,
        transfer_deadline: Optional[float] = None,
        tell_ready: bool = False,
        tell_pieces: bool = False,
        priority: Optional[str] = None,
    ) -> Tx:
        """A session that sends request `rid`. Its failure to open is its outcome.

        `priority`: "high", "normal" or "low", how urgent its bytes are wherever they wait for others'
        (16 : 4 : 1 by bytes, none starves); None: as each receiver asks.
        """
        flags = (
            _priority(priority)
            | (_abi.AUX if aux else 0)
            | (_abi.TELL_READY if tell_ready else 0)
            | (_abi.TELL_PIECES if tell_pieces else 0)
        )
        return self._open(Tx, rid, flags, deadline, transfer_deadline, None)

    def open_rx(
        self,
        rid: int,
        source: str,
        *,
        dp_rank: Optional[int] = 0,
        aux: bool = False,
        deadline: Optional[float] = None,
        transfer_deadline: Optional[float] = None,
        tell_pieces: bool = False,
        tell_layers: bool = False,
        allow_missing_layers: bool = False,
        allow_missing_roles: bool = False,
        priority: Optional[str] = None,
    ) -> Rx:
        """A session that receives request `rid` from the instance at `source`: its endpoint, or what
        add_instance() returned.

        `dp_rank`: which DP group runs the request; None: not known, the first that answers is it.
        `tell_layers`: needed for Rx.layers() and events of kind "layers". Until it has its slots the
        sending side's deadline begins anew every `session_keep_interval`.
        `priority`: as in open_tx; it travels with the request, and is "normal" when None.
        """
        flags = (
            _priority(priority)
            | (_abi.AUX if aux else 0)
            | (_abi.TELL_PIECES if tell_pieces else 0)
            | (_abi.TELL_LAYERS if tell_layers else 0)
            | (_abi.ALLOW_MISSING_LAYERS if allow_missing_layers else 0)
            | (_abi.ALLOW_MISSING_ROLES if allow_missing_roles else 0)
        )
        return self._open(
            Rx, rid, flags, deadline, transfer_deadline, self._source(source, dp_rank)
        )

    def send(
        self,
        rid: int,
        slots: Any,
        *,
        prompt: int,
        aux: Optional[Aux] = None,
        after: Any = None,
        deadline: Optional[float] = None,
        transfer_deadline: Optional[float] = None,
        priority: Optional[str] = None,
    ) -> Tx:
        """Opens a session and sends the whole prompt: open_tx, Tx.send and Tx.send_aux."""
        session = self.open_tx(
            rid,
            aux=aux is not None,
            deadline=deadline,
            transfer_deadline=transfer_deadline,
            priority=priority,
        )
        try:
            session.send(slots, prompt=prompt, after=after)
            if aux is not None:
                session.send_aux(aux)
        except BaseException as error:
            if not _has_ended(session, error):
                raise
        return session

    def receive(
        self,
        rid: int,
        slots: Any,
        *,
        prompt: int,
        source: str,
        dp_rank: Optional[int] = 0,
        aux: bool = False,
        deadline: Optional[float] = None,
        transfer_deadline: Optional[float] = None,
        tell_layers: bool = False,
        after: Any = None,
        priority: Optional[str] = None,
    ) -> Rx:
        """Opens a session and receives the whole prompt: open_rx and Rx.receive."""
        session = self.open_rx(
            rid,
            source,
            dp_rank=dp_rank,
            aux=aux,
            deadline=deadline,
            transfer_deadline=transfer_deadline,
            tell_layers=tell_layers,
            priority=priority,
        )
        try:
            session.receive(slots, prompt=prompt, after=after)
        except BaseException as error:
            if not _has_ended(session, error):
                raise
        return session

    # -- events --

    def fileno(self) -> int:
        """Readable while events wait; for select and event loops. Nobody but poll() reads it."""
        return self._events.descriptor

    def poll(self) -> List[Event]:
        """Takes all events that wait and wakes who awaits them. Never blocks."""
        return self._events.poll()

    def wait(self, timeout: Optional[float] = None) -> List[Event]:
        """Blocks until an event waits, then poll(); an empty list after `timeout` seconds."""
        return self._events.poll() if self._events.wait(timeout) else []

    # -- the end --

    def stop(self, deadline: Optional[float] = None) -> None:
        """Ends the rank; its sessions end as cancelled. Blocks.

        Error NOT_PROVEN: somebody may still write into its memory, which is therefore never freed; end the
        process. Events can be taken afterwards.
        """
        self._end(_abi.worker_stop, deadline)

    def drain(self, deadline: Optional[float] = None) -> None:
        """Lets sessions end first that have met their peer, then stops. Blocks."""
        self._end(_abi.worker_drain, deadline)

    def _end(self, how: Any, deadline: Optional[float]) -> None:
        try:
            how(self._handle, _milliseconds(self._stop_deadline if deadline is None else deadline))
        except Error as error:
            if error.code == Code.NOT_PROVEN:
                _kept.append(self._pages)
                self._events.give_up(error)
            raise
        finally:
            self._events.poll()

    def close(self) -> None:
        """Stops the rank, if it runs, and frees it. Blocks; any number of times."""
        if self._closed:
            return
        problem: Optional[Error] = None
        try:
            self.stop()
        except Error as error:
            if error.code == Code.UNSUPPORTED:  # a forked child: the rank is its parent's
                return
            if error.code != Code.STOPPED:
                problem = error
        while problem is None and self._events.sessions_left and self._events.wait(1.0):
            self._events.poll()  # what its sessions still have to tell comes at once
        self._closed = True
        gone = problem or Error(Code.STOPPED, f"the worker {self.instance} was closed")
        self._events.close(lambda: _abi.worker_free(self._handle), gone)
        _living.discard(self)
        if problem is not None:
            raise problem

    async def aclose(self) -> None:
        """close() on another thread."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    async def __aenter__(self) -> "Worker":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<kvferry.Worker of {self.instance}{', closed' if self._closed else ''}>"


def _has_ended(session: Session, error: BaseException) -> bool:
    """Of a new session that was refused its slots: nobody else has it, so it is given up, unless it has ended
    already; then its outcome says why."""
    if isinstance(error, Error) and error.code == Code.GONE:
        return True
    with contextlib.suppress(Error):
        session.cancel(f"its host failed: {error}")
    return False


@atexit.register
def _close_all() -> None:
    """Before Python frees the memory that workers have published."""
    for worker in list(_living):
        with contextlib.suppress(Error):
            worker.close()
