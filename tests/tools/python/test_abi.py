# SPDX-License-Identifier: Apache-2.0
"""_abi.py says what kvferry.h says."""

import ctypes
import inspect
import re
from pathlib import Path

import pytest

from kvferry import Code, _abi

ROOM = Path(__file__).resolve().parents[3] / "actors" / "c_api"
PROMISED = [line.split() for line in (ROOM / "abi.txt").read_text().splitlines()]
HEADER = (ROOM / "kvferry.h").read_text()


def structs():
    for name, kind in inspect.getmembers(_abi, inspect.isclass):
        if issubclass(kind, _abi.Sized) and kind is not _abi.Sized:
            yield "kvf_" + re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower(), kind


@pytest.mark.parametrize("name, kind", list(structs()))
def test_structs_have_the_promised_sizes_and_offsets(name, kind):
    assert ["size", name, str(ctypes.sizeof(kind))] in PROMISED
    promised = {
        line[1]: int(line[2])
        for line in PROMISED
        if line[0] == "field" and line[1].startswith(name + ".")
    }
    assert {
        f"{name}.{field[0]}": getattr(kind, field[0]).offset for field in kind._fields_
    } == promised
    assert kind().size == ctypes.sizeof(kind)


def test_codes_are_those_of_the_header():
    listed = HEADER[HEADER.index("KVF_OK = ") :]
    numbers = dict(re.findall(r"KVF_([A-Z_]+) = (\d+)", listed[: listed.index("};")]))
    assert {name: int(number) for name, number in numbers.items()} == {
        code.name: code.value for code in Code
    }


def test_constants_are_those_of_the_header():
    numbers = {name: int(number) for name, number in re.findall(r"KVF_([A-Z_]+) = (\d+)", HEADER)}
    for name, value in vars(_abi).items():
        if name.isupper() and name in numbers:
            assert numbers[name] == value, name


def test_packed_structs_are_the_structures():
    options = _abi.SessionOptions(
        flags=3, rid=5, user=7, deadline_ms=-9, transfer_deadline_ms=1 << 40
    )
    assert bytes(options) == _abi.pack_session_options(40, 3, 5, 7, -9, 1 << 40)
    text = ctypes.create_string_buffer(b"host:1")
    source = _abi.Source(dp_rank=-1)
    ctypes.c_uint64.from_buffer(source, _abi.Source.endpoint.offset).value = ctypes.addressof(text)
    packed = _abi.pack_source(_abi.SOURCE_BYTES, -1, ctypes.addressof(text))
    assert bytes(source) == packed
    slots = _abi.Slots(first_block=2, slots=77, count=5)
    assert bytes(slots) == _abi.pack_slots(_abi.SLOTS_BYTES, 2, 77, 5)
    groups = (_abi.Slots * 1)()
    at = ctypes.addressof(groups)
    given = _abi.Slice(
        token_begin=1,
        token_end=2,
        prompt_tokens=3,
        more=1,
        group_count=1,
        groups=groups,
        wait_for=8,
        layer_begin=9,
        layer_end=10,
    )
    assert bytes(given) == _abi.pack_slice(_abi.SLICE_BYTES, 1, 2, 3, True, 1, at, 8, 0, 9, 10)
    event = _abi.Event(
        kind=2,
        session=3,
        user=4,
        rid=5,
        code=-6,
        state=7,
        piece=8,
        aux=9,
        bytes=10,
        elapsed_ns=11,
    )
    size = ctypes.sizeof(_abi.Event)
    assert _abi.unpack_event(event, 0) == (size, 2, 3, 4, 5, -6, 7, 8, 9, 10, 11)
