# SPDX-License-Identifier: Apache-2.0
"""One workload on all systems in turn, as rows."""

import json
import subprocess
import sys
from statistics import median
from typing import Any, Dict, List

from network import Network
from pair import Failed, Pair
from workloads import Workload, percentile

Row = Dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(workload: Workload, network: Network, names: List[str], rounds: int) -> List[Row]:
    pairs: Dict[str, Pair] = {}
    reasons: Dict[str, str] = {}
    results: Dict[str, List[Dict[str, Any]]] = {name: [] for name in names}

    def give_up(name: str, error: Exception) -> None:
        reasons[name] = f"{type(error).__name__}: {error}" if type(error) is not Failed else str(error)
        say(f"  {name}: {reasons[name]}")
        if name in pairs:
            pairs.pop(name).end()

    try:
        for name in names:
            try:
                pairs[name] = Pair(name, workload, network)
            except (Failed, TimeoutError) as error:
                give_up(name, error)
        for number in range(rounds + 1):  # the first connects, and touches every page
            turn = list(pairs) if number % 2 == 0 else list(reversed(pairs))
            for name in turn:
                try:
                    result = pairs[name].round()
                except (Failed, TimeoutError) as error:
                    give_up(name, error)
                    continue
                if number > 0:
                    results[name].append(result)
                say(f"  round {number} {name}: {result['seconds'] * 1e3:.1f} ms")
    finally:
        for pair in pairs.values():
            pair.end()
    return [_row(workload, network, name, results, reasons) for name in names]


def _ratio(of: List[Dict[str, Any]], to: List[Dict[str, Any]], in_flight: int) -> Any:
    """Of neighbours in time, the median: of their usual transfer, of whole rounds with several in flight."""

    def seconds(result: Dict[str, Any]) -> float:
        return float(median(result["times"]) if in_flight == 1 else result["seconds"])

    ratios = [seconds(one) / seconds(other) for one, other in zip(of, to)]
    return median(ratios) if ratios else None


def _row(
    workload: Workload,
    network: Network,
    name: str,
    results: Dict[str, List[Dict[str, Any]]],
    reasons: Dict[str, str],
) -> Row:
    row: Row = dict(network=network.title, workload=workload.name, in_flight=workload.in_flight)
    row["system"] = name
    if name in reasons:
        return {**row, "reason": reasons[name]}
    rounds = results[name]
    times = [seconds for result in rounds for seconds in result["times"]]
    bytes_moved = workload.round_bytes / 1e9
    row |= {
        "gb_per_s": median(bytes_moved / result["seconds"] for result in rounds),
        "p50_us": median(times) * 1e6,
        "p99_us": percentile(times, 0.99) * 1e6,
        "cpu_s_per_gb": median(result["cpu"] for result in rounds) / bytes_moved,
        "cpu_us_per_transfer": median(result["cpu"] for result in rounds)
        / workload.transfers
        * 1e6,
        "time_of_kvferry": _ratio(rounds, results.get("kvferry", []), workload.in_flight),
        "rate_of_limit": _ratio(results.get("limit", []), rounds, workload.in_flight),
        "pieces_wrong": sum(result["wrong"] for result in rounds),
    }
    return row


def of_program(program: str, workload: Workload, network: Network, rounds: int) -> Row:
    """`kvferry bench`, which has a limit of its own."""
    row: Row = dict(network=network.title, workload=workload.name, in_flight=workload.in_flight)
    row["system"] = "kvferry bench (C++)"
    command = [program, "bench", "--json", "--regions", workload.pieces, "--region-bytes"]
    command += [workload.piece_bytes, "--in-flight", workload.in_flight]
    command += ["--transfers", workload.transfers, "--repeat", rounds]
    command += ["--footprint", workload.round_bytes]
    say(f"  {' '.join(str(word) for word in command)}")
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if run.returncode != 0:
        return {**row, "reason": (run.stderr.strip() or run.stdout.strip()).splitlines()[-1]}
    answer = json.loads(run.stdout)
    return {
        **row,
        "gb_per_s": answer["gb_per_s"],
        "p50_us": answer["p50_us"],
        "p99_us": answer["p99_us"],
        "cpu_s_per_gb": answer["cpu_s_per_gb"],
        "cpu_us_per_transfer": answer["cpu_us_per_transfer"],
        "time_of_kvferry": None,
        "rate_of_limit": answer["ratio"],
        "pieces_wrong": answer["regions_wrong"],
    }
