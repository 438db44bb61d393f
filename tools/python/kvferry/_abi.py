# SPDX-License-Identifier: Apache-2.0
"""kvferry.h for ctypes. tests/tools/python compares it with the ABI that was promised.

Short calls keep the GIL: giving it up means to wait for it again, 5 ms behind a busy thread. Calls that may
block release it.
"""

import ctypes
import struct
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from . import _library
from .errors import Error

ABI_MAJOR = 1

HOST_PRIVATE, HOST_SHARED, CUDA = 1, 2, 3
MEMORY_PREFAULT = 1
TOKENS_ARE_DEALT = 1
HND, NHD = 0, 2
GQA, MLA = 0, 1
NO_SAME_HOST_LINK, DIGESTS, NO_INFO_SERVER, INSECURE, PLAIN_BULK = 1, 2, 4, 8, 16
RELAY, WIRE_DIGESTS = 32, 64
EVENT_READY, EVENT_PIECE, EVENT_OUTCOME, EVENT_RELEASED, EVENT_LAYERS = 1, 2, 3, 4, 5
AUX, TELL_READY, TELL_PIECES, ALLOW_MISSING_LAYERS, ALLOW_MISSING_ROLES = 1, 2, 4, 8, 16
TELL_LAYERS = 32
PRIORITIES = {None: 0, "high": 64, "low": 128, "normal": 256}


class Sized(ctypes.Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), **fields)


def _u32(*names: str) -> "list[tuple[str, Any]]":
    return [(name, c_uint32) for name in names]


def _u64(*names: str) -> "list[tuple[str, Any]]":
    return [(name, c_uint64) for name in names]


def _text(*names: str) -> "list[tuple[str, Any]]":
    return [(name, c_char_p) for name in names]


class Region(Sized):
    _fields_ = [
        *_u32("size", "kind"),
        ("base", c_void_p),
        *_u64("bytes"),
        ("memfd", c_int32),
        *_u32("reserved"),
    ]


class Parallelism(Sized):
    _fields_ = [
        *_u32(
            "size",
            "tp_size",
            "tp_rank",
            "pp_size",
            "pp_rank",
            "cp_size",
            "cp_rank",
            "attention_dp",
            "world_size",
            "stages",
        ),
        ("layers_per_stage", POINTER(c_uint32)),
    ]


class Model(Sized):
    _fields_ = [
        *_u32(
            "size",
            "layers",
            "first_layer",
            "kv_heads",
            "head_dim",
            "element_bytes",
            "tokens_per_block",
            "attention",
            "order",
            "window_tokens",
        ),
        *_text("element_type"),
    ]


class Tensor(Sized):
    _fields_ = [
        *_u32("size", "dimensions"),
        *_text("name"),
        ("base", c_void_p),
        *_text("dims"),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        *_text("element_type"),
        ("layers", POINTER(c_uint32)),
        *_text("role"),
        ("sections", POINTER(c_uint64)),
        *_u32(
            "layer_count",
            "section_count",
            "element_bytes",
            "group",
            "heads",
            "window_tokens",
            "tokens_per_block",
            "reserved",
            "tokens_per_row",
            "flags",
        ),
    ]


class Pool(Sized):
    _fields_ = [
        *_u32("size", "region"),
        *_u64("region_offset_bytes", "slot_bytes", "slot_stride_bytes"),
        *_u32("slots", "reserved"),
        *_u64("bytes"),
    ]


class Directory(Sized):
    _fields_ = [
        *_u32("size", "lease_seconds"),
        *_text("endpoints", "prefix", "ca_file", "cert_file", "key_file", "user", "password_file"),
    ]


class WorkerOptions(Sized):
    _fields_ = [
        *_u32("size", "flags"),
        *_text("instance"),
        ("place", POINTER(Parallelism)),
        *_text("bind_address", "info_endpoint", "advertise", "fingerprint", "host_link_folder"),
        *_u32("port", "route"),
        ("devices", POINTER(c_int32)),
        *_u32("device_count", "multiprocessors", "sessions_max", "events_max"),
        ("session_deadline_ms", c_int64),
        ("transfer_deadline_ms", c_int64),
        ("info_deadline_ms", c_int64),
        ("stop_deadline_ms", c_int64),
        *_u32("copy_threads", "reserved"),
        ("session_age_max_ms", c_int64),
        ("session_keep_interval_ms", c_int64),
        *_text("secret_file"),
        ("directory", POINTER(Directory)),
        *_u32("role", "reserved_2"),
    ]


class Statistics(Sized):
    _fields_ = [
        *_u32("size", "reserved"),
        *_u64(
            "sessions_opened",
            "sessions_finished",
            "sessions_live",
            "sessions_quarantined",
            "links_live",
            "events_waiting",
            "handler_failures",
            "sessions_succeeded",
            "waited_ns",
            "transferred_ns",
        ),
        ("sessions_failed", c_uint64 * 32),
    ]


class Bytes(Sized):
    _fields_ = [*_u32("size", "reserved"), ("data", c_char_p), *_u64("bytes")]


class Wanted(Sized):
    _fields_ = [
        *_u32("size", "receivers", "prompt_tokens", "prefix_tokens"),
        *_u64("blocks"),
    ]


class Event(Sized):
    _fields_ = [
        *_u32("size", "kind"),
        ("session", c_void_p),
        *_u64("user", "rid"),
        ("code", c_int32),
        *_u32("state", "piece", "aux"),
        *_u64("bytes", "elapsed_ns"),
        ("text", ctypes.c_char * 256),
    ]


class SessionOptions(Sized):
    _fields_ = [
        *_u32("size", "flags"),
        *_u64("rid", "user"),
        ("deadline_ms", c_int64),
        ("transfer_deadline_ms", c_int64),
    ]


class Source(Sized):
    _fields_ = [*_u32("size"), ("dp_rank", c_int32), *_text("endpoint")]


class Slots(Sized):
    _fields_ = [*_u32("size", "first_block"), ("slots", c_void_p), *_u64("count")]


class Slice(Sized):
    _fields_ = [
        *_u32("size", "token_begin", "token_end", "prompt_tokens", "more", "group_count"),
        ("groups", POINTER(Slots)),
        ("wait_for", c_void_p),
        ("completed", c_void_p),
        *_u32("layer_begin", "layer_end"),
    ]


class Aux(Sized):
    _fields_ = [
        *_u32("size", "prompt_tokens", "cached_tokens", "reserved"),
        ("first_tokens", c_void_p),
        *_u64("first_token_count"),
        ("draft_tokens", c_void_p),
        *_u64("draft_token_count"),
        ("opaque", c_void_p),
        *_u64("opaque_bytes"),
    ]


class Outcome(Sized):
    _fields_ = [
        *_u32("size", "state"),
        ("code", c_int32),
        *_u32("released", "peers", "layers_skipped_count"),
        *_text("text"),
        *_u64("bytes", "fragments"),
        ("layers_skipped", POINTER(c_uint32)),
        *_text("roles_skipped"),
    ]


class Peer(Sized):
    _fields_ = [
        *_u32("size", "rank"),
        *_u64("bytes", "fragments", "posting_ns"),
        *_text("route"),
        *_u32("digests", "reserved", "way", "reserved_2"),
    ]


# The structs of every request, packed: to make a ctypes structure and set its fields takes longer than the call.
# Native order and sizes, without padding; the test compares them with the structures above.
pack_session_options = struct.Struct("=IIQQqq").pack
pack_source = struct.Struct("=IiQ").pack
pack_slots = struct.Struct("=IIQQ").pack
pack_slice = struct.Struct("=IIIIIIQQQII").pack
unpack_event = struct.Struct("=IIQQQiIIIQQ").unpack_from
SESSION_OPTIONS_BYTES, SOURCE_BYTES = ctypes.sizeof(SessionOptions), ctypes.sizeof(Source)
SLOTS_BYTES, SLICE_BYTES = ctypes.sizeof(Slots), ctypes.sizeof(Slice)
EVENT_BYTES = ctypes.sizeof(Event)


_path = _library.path()
_blocking = ctypes.CDLL(_path)
_short = ctypes.PyDLL(_path)

_short.kvf_last_error.restype = c_char_p
_short.kvf_version.restype = c_char_p


def failed(code: int) -> Error:
    """Of the call that has just returned this code."""
    return Error(code, _short.kvf_last_error().decode(errors="replace"))


def _checked(code: int) -> None:
    if code != 0:
        raise failed(code)


def _call(library: ctypes.CDLL, name: str, *arguments: Any) -> Any:
    call = getattr(library, name)
    call.argtypes = arguments
    call.restype = _checked
    return call


def _code(name: str, *arguments: Any) -> Any:
    """A call of every request, which keeps the GIL and answers with its code: check it."""
    call = getattr(_short, name)
    call.argtypes = arguments
    call.restype = c_int
    return call


def quiet(free: Any) -> Any:
    """For __del__: what is gone already, or a forked child's parent's, is no error; nor is it one that at the
    end of the process globals are gone."""

    def freed(handle: Any) -> None:
        try:
            free(handle)  # by its code or by an exception, both of no interest
        except Exception:
            pass

    return freed


version: str = _short.kvf_version().decode()
if _short.kvf_abi_version() >> 16 != ABI_MAJOR:
    raise ImportError(f"{_path} has the ABI {_short.kvf_abi_version() >> 16}, not {ABI_MAJOR}")

rid_of = _short.kvf_rid_of
rid_of.argtypes, rid_of.restype = [c_char_p, c_size_t], c_uint64
_out = POINTER(c_void_p)
log_level = _call(_short, "kvf_log_level", c_char_p)
memory_new = _call(_blocking, "kvf_memory_new", c_char_p, c_uint64, c_uint32, _out)
memory_new_on_device = _call(_blocking, "kvf_memory_new_on_device", c_int32, c_uint64, _out)
memory_region = _call(_short, "kvf_memory_region", c_void_p, POINTER(Region))
memory_free = _call(_blocking, "kvf_memory_free", c_void_p)
pages_from_model = _call(
    _short, "kvf_pages_from_model", POINTER(Model), POINTER(Parallelism), c_uint32, _out
)
pages_from_tensors = _call(
    _short,
    "kvf_pages_from_tensors",
    POINTER(Tensor),
    c_size_t,
    POINTER(Parallelism),
    POINTER(Region),
    c_size_t,
    _out,
)
tensors_regions = _call(
    _short, "kvf_tensors_regions", POINTER(Tensor), c_size_t, POINTER(Region), POINTER(c_size_t)
)
pages_pool = _call(_short, "kvf_pages_pool", c_void_p, c_uint32, POINTER(Pool))
pages_free = _call(_short, "kvf_pages_free", c_void_p)
worker_start = _call(_blocking, "kvf_worker_start", POINTER(WorkerOptions), _out)
worker_publish = _call(
    _blocking, "kvf_worker_publish", c_void_p, POINTER(Region), c_size_t, c_void_p
)
worker_connect = _call(_blocking, "kvf_worker_connect", c_void_p, POINTER(Source), c_int64)
worker_unpublish = _call(_blocking, "kvf_worker_unpublish", c_void_p, c_int64)
worker_endpoint = _call(_short, "kvf_worker_endpoint", c_void_p, c_char_p, POINTER(c_size_t))
worker_memory_route = _call(
    _blocking, "kvf_worker_memory_route", c_void_p, c_uint32, c_char_p, POINTER(c_size_t)
)
worker_info = _call(_blocking, "kvf_worker_info", c_void_p, c_char_p, POINTER(c_size_t))
worker_add_instance = _call(
    _blocking,
    "kvf_worker_add_instance",
    c_void_p,
    POINTER(Bytes),
    c_size_t,
    c_char_p,
    POINTER(c_size_t),
)
worker_remove_instance = _call(_blocking, "kvf_worker_remove_instance", c_void_p, c_char_p)
worker_set_role = _call(_blocking, "kvf_worker_set_role", c_void_p, c_uint32)
worker_statistics = _call(_blocking, "kvf_worker_statistics", c_void_p, POINTER(Statistics))
worker_stop = _call(_blocking, "kvf_worker_stop", c_void_p, c_int64)
worker_drain = _call(_blocking, "kvf_worker_drain", c_void_p, c_int64)
worker_free = _call(_blocking, "kvf_worker_free", c_void_p)
worker_event_fd = _call(_short, "kvf_worker_event_fd", c_void_p, POINTER(c_int))
worker_events = _code("kvf_worker_events", c_void_p, c_void_p, c_size_t, POINTER(c_size_t))
worker_wait = _call(_blocking, "kvf_worker_wait", c_void_p, c_int64)
# Packed structs go as bytes.
worker_open_tx = _code("kvf_worker_open_tx", c_void_p, c_char_p, _out)
worker_open_rx = _code("kvf_worker_open_rx", c_void_p, c_char_p, c_char_p, _out)
session_send = _code("kvf_session_send", c_void_p, c_char_p)
session_receive = _code("kvf_session_receive", c_void_p, c_char_p)
session_send_aux = _call(_short, "kvf_session_send_aux", c_void_p, POINTER(Aux))
session_extend = _call(_short, "kvf_session_extend", c_void_p, c_int64)
session_wanted = _call(_short, "kvf_session_wanted", c_void_p, POINTER(Wanted))
session_slots_in_doubt = _call(
    _blocking,
    "kvf_session_slots_in_doubt",
    c_void_p,
    POINTER(c_uint32),
    POINTER(c_int32),
    POINTER(c_size_t),
)
session_cancel = _call(_short, "kvf_session_cancel", c_void_p, c_char_p)
session_wait = _call(_blocking, "kvf_session_wait", c_void_p, c_uint32, c_int64)
session_outcome = _call(_short, "kvf_session_outcome", c_void_p, POINTER(Outcome))
session_peer = _call(_short, "kvf_session_peer", c_void_p, c_uint32, POINTER(Peer))
session_aux = _call(_short, "kvf_session_aux", c_void_p, POINTER(Aux))
session_waits_for = _call(_blocking, "kvf_session_waits_for", c_void_p, c_char_p, POINTER(c_size_t))
session_free = _code("kvf_session_free", c_void_p)
