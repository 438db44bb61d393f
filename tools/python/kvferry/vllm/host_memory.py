# SPDX-License-Identifier: Apache-2.0
"""A cache in host memory, where peers of this machine write into it directly instead of over the network."""

import contextlib
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from torch.overrides import TorchFunctionMode

from ..errors import Error
from ..memory import Memory


class SharedHostMemory(TorchFunctionMode):
    """While it is entered, what torch.zeros makes on the CPU lies in memory that can be mapped."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        options = kwargs or {}
        if func is torch.zeros and torch.device(options.get("device") or "cpu").type == "cpu":
            with contextlib.suppress(Error):  # none to be had: memory as anybody else's
                shape = torch.Size(args[0] if isinstance(args[0], (tuple, list)) else args)
                dtype = options.get("dtype") or torch.get_default_dtype()
                memory = Memory(shape.numel() * dtype.itemsize, "vLLM's cache")
                return torch.frombuffer(memory.view, dtype=dtype, count=shape.numel()).view(shape)
        return func(*args, **options)
