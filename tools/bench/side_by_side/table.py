# SPDX-License-Identifier: Apache-2.0
"""Rows as a table for people."""

from typing import Any, Dict, List

HEAD = "network,transfers,in flight,system,GB/s,p50,p99,CPU,time / kvferry's,rate / limit's"


def _time(microseconds: float) -> str:
    return f"{microseconds:.0f} µs" if microseconds < 1e4 else f"{microseconds / 1e3:.0f} ms"


def _ratio(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cells(row: Dict[str, Any]) -> List[str]:
    cells = [row["network"], row["workload"], str(row["in_flight"]), row["system"]]
    if "reason" in row:
        return cells + [f"none: {row['reason']}"] + [""] * 5
    small = row["workload"].startswith("1 x")
    cpu = f"{row['cpu_s_per_gb']:.2f} s per GB"
    cells += [
        "-" if small else f"{row['gb_per_s']:.3g}",
        _time(row["p50_us"]),
        _time(row["p99_us"]),
        _time(row["cpu_us_per_transfer"]) if small else cpu,
        _ratio(row["time_of_kvferry"]),
        _ratio(row["rate_of_limit"]),
    ]
    if row["pieces_wrong"]:
        cells[4] += f" ({row['pieces_wrong']} PIECES WRONG)"
    return cells


def lines(rows: List[Dict[str, Any]]) -> List[str]:
    result = []
    measured = [row for row in rows if "killed" not in row]
    if measured:
        head = HEAD.split(",")
        result += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        result += ["| " + " | ".join(_cells(row)) + " |" for row in measured]
    ends = [row for row in rows if "killed" in row]
    if ends:
        result += ["", "| network | system | source killed | source frozen |", "|---" * 4 + "|"]
        for row in ends:
            cells = [row["network"], row["system"], row["killed"], row["frozen"]]
            result.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return result
