# SPDX-License-Identifier: Apache-2.0
"""Where the two processes are: on one host, or in two network namespaces that stand for two machines."""

import os
import shutil
import subprocess
from typing import Dict, List, Optional

ADDRESSES = {"source": "192.0.2.1", "target": "192.0.2.2"}


class Network:
    """One host, over loopback."""

    title = "one host"
    one_host = True

    def address(self, side: str) -> str:
        return "127.0.0.1"

    def prefix(self, side: str) -> List[str]:
        return []

    def environment(self, side: str) -> Dict[str, str]:
        return {"UCX_NET_DEVICES": "lo"}

    def close(self) -> None:
        pass


def why_no_namespaces() -> Optional[str]:
    if os.geteuid() != 0:
        return "namespaces need root"
    return None if shutil.which("ip") else "there is no `ip` (iproute2)"


class Namespaces(Network):
    """Two namespaces with a cable between them. UCX may use nothing that two machines do not have."""

    title = "two namespaces"
    one_host = False

    def __init__(self) -> None:
        self._names = {side: f"rivals-{os.getpid()}-{side}" for side in ADDRESSES}
        self._devices = {"source": "rivals0", "target": "rivals1"}
        try:
            for side, name in self._names.items():
                self._ip("netns", "add", name)
                self._ip("-n", name, "link", "set", "lo", "up")
            one, other = self._names.values()
            self._ip("-n", one, "link", "add", "rivals0", "type", "veth", "peer", "name", "rivals1", "netns", other)
            for side, name in self._names.items():
                self._ip("-n", name, "address", "add", f"{ADDRESSES[side]}/24", "dev", self._devices[side])
                self._ip("-n", name, "link", "set", self._devices[side], "up")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    def address(self, side: str) -> str:
        return ADDRESSES[side]

    def prefix(self, side: str) -> List[str]:
        return ["ip", "netns", "exec", self._names[side]]

    def environment(self, side: str) -> Dict[str, str]:
        return {"UCX_NET_DEVICES": self._devices[side], "UCX_TLS": "tcp,self"}

    def close(self) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
