# SPDX-License-Identifier: Apache-2.0
"""What a target is told when its source is killed or frozen in mid-transfer."""

import contextlib
import signal
import sys
import time
from typing import Dict

from network import Network
from pair import Failed, Pair
from workloads import Workload

DEADLINE = 5.0  # of a transfer, for systems that have such
SETTLE = 2.0  # seconds after which a peer that goes on has written what it will write


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _one(name: str, workload: Workload, network: Network, number: int, patience: float) -> str:
    pair = Pair(name, workload, network, DEADLINE)
    target = pair.target
    try:
        pair.round()  # connects, and touches every page
        target.call("clear")
        pair.source.call("offer", round_number=1)
        target.ask("pull_to_the_end", round_number=1)
        if (first := target.answer()) != "first":
            return f"failed before: {_shortened(first['error'])}"
        pair.source.signal(number)
        begin, cpu = time.monotonic(), target.cpu()
        try:
            result = target.answer(patience)
        except TimeoutError:
            used = (target.cpu() - cpu) / (time.monotonic() - begin)
            text = f"not told in {patience:.0f} s ({used:.0%} of a processor meanwhile)"
            if number == signal.SIGSTOP:
                pair.source.signal(signal.SIGCONT)
                with contextlib.suppress(TimeoutError):
                    result = target.answer(patience)
                    return f"{text}; ends when the peer goes on: {result.get('error', 'done')}"
            return f"{text}; nothing is said of writes"
        if "error" not in result:
            wrong = target.call("verify")
            return f"done after {result['seconds']:.2f} s, {wrong} pieces wrong"
        text = f"told after {result['seconds']:.2f} s: {_shortened(result['error'])}; {result['says']}"
        if number == signal.SIGSTOP:
            before = target.call("sum")
            pair.source.signal(signal.SIGCONT)
            time.sleep(SETTLE)
            late = target.call("sum") != before
            text += "; " + ("bytes still came" if late else "no byte came") + " when the peer went on"
            if (later := target.call("says_later")) is not None:
                text += f": {later}"
        return text
    except (Failed, TimeoutError) as error:
        return _shortened(str(error))
    finally:
        pair.end()


def ends(name: str, workload: Workload, network: Network, patience: float) -> Dict[str, str]:
    result = {}
    for what, number in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
        print(f"{network.title}, {name}: source {what}", file=sys.stderr, flush=True)
        result[what] = _one(name, workload, network, number, patience)
        print(f"  {result[what]}", file=sys.stderr, flush=True)
    return result
