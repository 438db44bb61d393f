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
