# SPDX-License-Identifier: Apache-2.0
"""Finds and loads libkvferry.so, and with it the UCX beside it.

KVFERRY_LIBRARY names another library. KVFERRY_UCX names a folder with another UCX: for RDMA, the one that
fits the machine's drivers. A UCX that the process has loaded already is used in any case.
"""

import ctypes
import os
from pathlib import Path
from typing import Iterator

# UCX takes over SIGHUP and the crash signals of its process when it is loaded, unless it is told not to.
_QUIET = {"UCX_HANDLE_ERRORS": "none", "UCX_DEBUG_SIGNO": "0"}


def _places() -> Iterator[Path]:
    if named := os.environ.get("KVFERRY_LIBRARY"):
        yield Path(named)
    yield Path(__file__).parent / "lib" / "libkvferry.so.1"


def path() -> str:
    """Loads the library; what ctypes opens by this name is the same."""
    found = next((place for place in _places() if place.exists()), None)
    before = {name: os.environ.get(name) for name in _QUIET}
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        if folder := os.environ.get("KVFERRY_UCX"):
            ctypes.CDLL(str(Path(folder, "libucp.so.0")))
        result = str(found or "libkvferry.so.1")
        ctypes.CDLL(result)
        return result
    finally:
        for name, old in before.items():
            if old is None:
                del os.environ[name]
