# SPDX-License-Identifier: Apache-2.0
"""Finds and loads libkvferry.so, and with it the UCX beside it.

KVFERRY_LIBRARY names another library. KVFERRY_UCX names a folder with another UCX: for RDMA, the one that
fits the machine's drivers. A UCX that the process has loaded already is used in any case.
"""

import ctypes
import os
from pathlib import Path
from typing import Iterator


def _places() -> Iterator[Path]:
    if named := os.environ.get("KVFERRY_LIBRARY"):
        yield Path(named)
    yield Path(__file__).parent / "lib" / "libkvferry.so.1"


def path() -> str:
    """Loads what must be loaded before the library, and says where that is."""
    if folder := os.environ.get("KVFERRY_UCX"):
        ctypes.CDLL(str(Path(folder, "libucp.so.0")))
    return str(next((place for place in _places() if place.exists()), "libkvferry.so.1"))
