# SPDX-License-Identifier: Apache-2.0
"""Two processes of one system, a source and a target, and what the comparison asks them."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

from network import Network
from workloads import Workload

PATIENCE = 120.0  # seconds for any answer


class Failed(Exception):
    """Says why a row has no numbers."""


class Process:
    def __init__(
        self, name: str, workload: Workload, side: str, network: Network, deadline: float
    ) -> None:
        place = dict(side=side, address=network.address(side), deadline=deadline)
        place["one_host"] = network.one_host
        self.side = side
        self._log = tempfile.TemporaryFile()
        peer = [sys.executable, str(Path(__file__).with_name("peer.py")), name]
        self._process = subprocess.Popen(
            network.prefix(side) + peer + [json.dumps(asdict(workload)), json.dumps(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **network.environment(side)},
            text=True,
            bufsize=1,
        )
        self._answers: "queue.Queue[str]" = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, **arguments: Any) -> None:
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")  # type: ignore
        except BrokenPipeError:
            pass  # answer() says why

    def answer(self, seconds: float = PATIENCE) -> Any:
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"{self.side}: no answer in {seconds:.0f} s") from None
        if not line:
            raise Failed(f"{self.side} died with status {self._process.wait()}: {self._tail()}")
        value = json.loads(line)
        if isinstance(value, dict) and "failed" in value:
            raise Failed(f"{self.side}: {value['failed']}; its log: {self._tail()}")
        return value["answer"] if isinstance(value, dict) else value

    def call(self, do: str, **arguments: Any) -> Any:
        self.ask(do, **arguments)
        return self.answer()

    def _tail(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def cpu(self) -> float:
        """Of a process that may not answer."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Pair:
    def __init__(
        self, name: str, workload: Workload, network: Network, deadline: float = 60.0
    ) -> None:
        self.workload = workload
        self.source = Process(name, workload, "source", network, deadline)
        self.target = Process(name, workload, "target", network, deadline)
        try:
            for side in self.source, self.target:
                side.answer()
            introductions = [side.call("introduce") for side in (self.source, self.target)]
            self.source.call("meet", other=introductions[1])
            self.target.call("meet", other=introductions[0])
        except BaseException:
            self.end()
            raise
        self._round = 0

    def round(self) -> Dict[str, Any]:
        """Clears the target, moves every transfer once, compares every byte."""
        number, self._round = self._round, self._round + 1
        self.target.call("clear")
        before = self.source.call("cpu")
        self.source.call("offer", round_number=number)
        result = self.target.call("pull", round_number=number)
        self.source.call("settle")
        result["cpu"] += self.source.call("cpu") - before
        result["wrong"] = self.target.call("verify")
        return dict(result)

    def sides(self) -> List[Process]:
        return [self.source, self.target]

    def end(self) -> None:
        for side in self.sides():
            side.end()
