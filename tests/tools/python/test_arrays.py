# SPDX-License-Identifier: Apache-2.0
"""What arrays say of their memory, by each of the ways that they have."""

import numpy as np
import pytest

from kvferry.arrays import memory_of


class OnlyInterface:
    def __init__(self, array, name):
        setattr(self, name, array.__array_interface__)


class OnlyDlpack:
    def __init__(self, array):
        self._array = array

    def __dlpack__(self):
        return self._array.__dlpack__()


def views():
    whole = np.zeros((6, 5, 4), np.float16)
    return [whole, whole[1:4], whole[:, 2:, 1:3], whole.transpose(2, 0, 1), whole.view(np.uint8)]


@pytest.mark.parametrize("view", views())
def test_all_ways_say_the_same(view):
    said = memory_of(view)
    assert said.address == view.ctypes.data
    assert said.shape == view.shape and said.element_bytes == view.itemsize and not said.on_cuda
    by_dlpack = memory_of(OnlyDlpack(view))
    assert (by_dlpack.address, by_dlpack.shape) == (said.address, said.shape)
    assert (by_dlpack.element_type, by_dlpack.element_bytes) == (view.dtype.name, view.itemsize)
    assert not by_dlpack.on_cuda
    for strides in (said.strides, by_dlpack.strides):
        if strides is None:
            assert view.flags.c_contiguous
        else:
            assert [stride * view.itemsize for stride in strides] == list(view.strides)
    by_interface = memory_of(OnlyInterface(view, "__array_interface__"))
    assert (by_interface.address, by_interface.strides) == (said.address, said.strides)
    assert memory_of(OnlyInterface(view, "__cuda_array_interface__")).on_cuda


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="list is no tensor"):
        memory_of([1, 2])
    odd = np.zeros(4, np.dtype([("a", np.uint16), ("b", np.uint8)]))["a"]
    with pytest.raises(ValueError, match="multiples of 2 bytes"):
        memory_of(odd)
