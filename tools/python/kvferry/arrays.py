# SPDX-License-Identifier: Apache-2.0
"""What an array of any framework says of its memory. Nothing is copied, nothing imported."""

import ctypes
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


class _DLTensor(ctypes.Structure):
    """Of dlpack.h, as a managed tensor begins."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_DLPACK_TYPES = {0: "int{}", 1: "uint{}", 2: "float{}", 4: "bfloat{}"}
_DLPACK_TYPES.update({10: "float8_e4m3fn", 12: "float8_e5m2", 14: "float8_e8m0fnu"})
_DLPACK_HOST, _DLPACK_CUDA = (1, 3), (2,)


def _of_dlpack(capsule: Any) -> ArrayMemory:
    """The capsule stays unused: it lets go of the array when it is freed."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DLTensor.from_address(pointer(capsule, b"dltensor"))
    if tensor.device_type not in _DLPACK_HOST + _DLPACK_CUDA or tensor.lanes != 1:
        raise ValueError(
            f"device type {tensor.device_type} of DLPack is neither host memory nor a CUDA device"
        )
    name = _DLPACK_TYPES.get(tensor.code, f"dlpack type {tensor.code} of {{}} bits")
    return ArrayMemory(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[: tensor.ndim]),
        tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None,
        name.format(tensor.bits),
        tensor.bits // 8,
        tensor.device_type in _DLPACK_CUDA,
    )


def memory_of(array: Any) -> ArrayMemory:
    """Of a torch tensor, or of what has __cuda_array_interface__, __array_interface__ or __dlpack__."""
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
    if hasattr(array, "__dlpack__"):
        return _of_dlpack(array.__dlpack__())
    raise TypeError(
        f"{type(array).__name__} is no tensor: it has no data_ptr(), no "
        "__cuda_array_interface__, no __array_interface__ and no __dlpack__"
    )
