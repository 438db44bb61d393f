# SPDX-License-Identifier: Apache-2.0
"""Cache memory that kvferry allocates."""

import ctypes
import weakref
from typing import Any, Dict, Optional

from . import _abi

_living: "weakref.WeakSet[Memory]" = weakref.WeakSet()


class _Owned:
    """It lives as long as this object, its views and the workers that publish tensors in it."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle
        self._region = _abi.Region()
        _abi.memory_region(handle, ctypes.byref(self._region))

    def __del__(self, free: Any = _abi.quiet(_abi.memory_free)) -> None:
        free(getattr(self, "_handle", None))

    @property
    def address(self) -> int:
        return int(self._region.base)

    def __len__(self) -> int:
        return int(self._region.bytes)

    def __repr__(self) -> str:
        return f"<kvferry.{type(self).__name__} of {len(self)} bytes at {self.address:#x}>"


class Memory(_Owned):
    """Host memory that workers of this machine write into directly."""

    def __init__(self, size_bytes: int, name: str = "kvferry", *, prefault: bool = False) -> None:
        """Rounds up to whole pages. `name` is for people (/proc/<pid>/maps)."""
        handle = ctypes.c_void_p()
        _abi.memory_new(
            name.encode(), size_bytes, _abi.MEMORY_PREFAULT if prefault else 0, ctypes.byref(handle)
        )
        super().__init__(handle)
        _living.add(self)

    @property
    def view(self) -> memoryview:
        """All of it, writable; for numpy.frombuffer and torch.frombuffer."""
        array = (ctypes.c_ubyte * len(self)).from_address(self.address)
        array._memory = self  # type: ignore[attr-defined]
        return memoryview(array).cast("B")


class DeviceMemory(_Owned):
    """Memory of a CUDA device; torch.as_tensor and cupy.asarray make tensors of it, as bytes."""

    def __init__(self, size_bytes: int, device: int = 0) -> None:
        handle = ctypes.c_void_p()
        _abi.memory_new_on_device(device, size_bytes, ctypes.byref(handle))
        super().__init__(handle)
        self.device = device

    @property
    def __cuda_array_interface__(self) -> Dict[str, Any]:
        return {
            "data": (self.address, False),
            "shape": (len(self),),
            "typestr": "|u1",
            "version": 3,
        }


def memory_at(address: int, size_bytes: int) -> Optional[Memory]:
    """The Memory that these bytes lie in."""
    for memory in list(_living):
        if memory.address <= address and address + size_bytes <= memory.address + len(memory):
            return memory
    return None
