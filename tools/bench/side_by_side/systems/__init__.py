# SPDX-License-Identifier: Apache-2.0
"""Whoever can move bytes between two processes, by name, behind one interface."""

from typing import Dict, Tuple

# Imported where they run: a system whose package is not installed is a row with the reason.
PLACES: Dict[str, Tuple[str, str]] = {
    "limit": ("limit", "Limit"),
    "kvferry": ("ours", "Kvferry"),
    "nixl": ("nixl_ucx", "Nixl"),
    "mooncake": ("mooncake_tcp", "Mooncake"),
}
