# SPDX-License-Identifier: Apache-2.0
"""What an array of any framework says of its memory. Nothing is copied, nothing imported."""

from dataclasses import dataclass
from typing import Any, Optional, Tuple


@dataclass(frozen=True)
class ArrayMemory:
    address: int
    shape: Tuple[int, ...]
    strides: Optional[Tuple[int, ...]]  # in elements; None: dense
    element_type: str
    element_bytes: int
    on_cuda: bool


def _of_interface(interface: Any, element_type: Optional[str], on_cuda: bool) -> ArrayMemory:
    element_bytes = int(interface["typestr"][2:])
    strides = interface.get("strides")
    if strides is not None:
        if any(stride % element_bytes for stride in strides):
            raise ValueError(f"strides {strides} are no multiples of {element_bytes} bytes")
        strides = tuple(stride // element_bytes for stride in strides)
    return ArrayMemory(
        interface["data"][0],
        tuple(interface["shape"]),
        strides,
        element_type or interface["typestr"],
        element_bytes,
        on_cuda,
    )


def memory_of(array: Any) -> ArrayMemory:
    """Of a torch tensor, or of what has __cuda_array_interface__ or __array_interface__ (numpy, cupy, numba)."""
    if hasattr(array, "data_ptr"):  # torch, and those that look like it
        if array.device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"a tensor on {array.device} is neither in host memory nor on a CUDA device"
            )
        return ArrayMemory(
            array.data_ptr(),
            tuple(array.shape),
            tuple(array.stride()),
            str(array.dtype),
            array.element_size(),
            array.device.type == "cuda",
        )
    name = getattr(getattr(array, "dtype", None), "name", None)  # says more than "<V2" does
    if (interface := getattr(array, "__cuda_array_interface__", None)) is not None:
        return _of_interface(interface, name, True)
    if (interface := getattr(array, "__array_interface__", None)) is not None:
        return _of_interface(interface, name, False)
    raise TypeError(
        f"{type(array).__name__} is no tensor: it has no data_ptr(), no "
        "__cuda_array_interface__ and no __array_interface__"
    )
