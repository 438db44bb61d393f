# SPDX-License-Identifier: Apache-2.0
"""kvferry beside other engines that move KV caches, and beside the limit: tools/bench/rivals runs this."""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
from typing import Dict, Iterator, List

from ends import ends
from network import Namespaces, Network, why_no_namespaces
from rows import Row, measured, of_program, say
from systems import PLACES
from table import lines
from workloads import QUICK, WORKLOADS, Workload

PACKAGES = ["nixl", "nixl-cu12", "nixl-cu13", "mooncake-transfer-engine"]
PACKAGES += ["mooncake-transfer-engine-non-cuda", "mooncake-transfer-engine-cuda13", "numpy"]


def versions() -> Dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    import kvferry

    return {"kvferry": kvferry.__version__, **found}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench/rivals", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, in a minute or two")
    parser.add_argument("--only", action="append", choices=[*PLACES, "bench"], help="these systems")
    parser.add_argument("--network", choices=["host", "namespaces"], help="one of the two")
    parser.add_argument("--workload", help='those whose name has this: "1024 x"')
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--patience", type=float, default=0, help="seconds for a frozen peer")
    parser.add_argument("--without-ends", action="store_true", help="nobody is killed or frozen")
    parser.add_argument("--json", action="store_true", help="one object per line, not a table")
    return parser.parse_args()


def compare(given: argparse.Namespace) -> Iterator[Row]:
    names = [name for name in PLACES if not given.only or name in given.only]
    rounds = given.rounds or (2 if given.quick else 5)
    patience = given.patience or (8 if given.quick else 45)
    workloads = [one for one in (QUICK if given.quick else WORKLOADS) if (given.workload or "") in one.name]
    program = os.environ.get("KVFERRY_PROGRAM", "")
    networks = [Network] if given.network != "namespaces" else []
    if given.network != "host":
        if (why := why_no_namespaces()) is None:
            networks.append(Namespaces)
        else:
            row = dict(network=Namespaces.title, workload="all", in_flight="", system="all")
            yield {**row, "reason": why}
    for kind in networks:
        try:
            network = kind()
        except Exception as error:  # a kernel or a container that forbids it
            text = getattr(error, "stderr", None) or str(error)
            row = dict(network=kind.title, workload="all", in_flight="", system="all")
            yield {**row, "reason": text.strip()}
            continue
        try:
            for workload in workloads:
                say(f"{network.title}, {workload.name}, {workload.in_flight} in flight")
                yield from measured(workload, network, names, rounds)
                if network.one_host and program and (not given.only or "bench" in given.only):
                    yield of_program(program, workload, network, rounds)
            if not given.without_ends:
                size = 16384 if given.quick else 65536
                mid = Workload("8 x 1024", 1024, size, 8, 1)
                for name in names:
                    if name != "limit":
                        row = dict(network=network.title, system=name)
                        yield {**row, **ends(name, mid, network, patience)}
        finally:
            network.close()


def main() -> int:
    given = arguments()
    what = dict(date=time.strftime("%Y-%m-%d"), versions=versions(), python=platform.python_version())
    what |= dict(processors=os.cpu_count(), load=os.getloadavg())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # namespaces go, and processes
    rows: List[Row] = []
    if given.json:
        print(json.dumps(what), flush=True)
    for row in compare(given):
        rows.append(row)
        if given.json:
            print(json.dumps(row), flush=True)
    if not given.json:
        print(f"{what['date']}, {what['processors']} processors, load {what['load'][0]:.0f}; ", end="")
        print(", ".join(f"{name} {version}" for name, version in what["versions"].items()))
        print("\n".join(lines(rows)))
    wrong = sum(row.get("pieces_wrong", 0) for row in rows)
    ours = [row for row in rows if row["system"] == "kvferry" and "reason" in row]
    for row in ours:
        say(f"kvferry has no numbers: {row['reason']}")
    return 1 if wrong or ours else 0


if __name__ == "__main__":
    sys.exit(main())
