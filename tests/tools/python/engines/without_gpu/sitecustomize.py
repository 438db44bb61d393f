# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for what SGLang imports everywhere and calls only on a GPU, or for pictures. On sys.path of its engines."""

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any, Optional, Sequence

NAMES = {"sgl_kernel", "torchvision"}


class _Name(type):
    """Whatever is asked of it is one more such name."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _named(name)


def _named(name: str) -> Any:
    return _Name(name, (), {})


class _Module(types.ModuleType):
    __path__: Sequence[str] = []
    __version__ = "0.0.1"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _named(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if name.split(".")[0] not in NAMES:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.append(_Finder())  # last: what is installed comes first
