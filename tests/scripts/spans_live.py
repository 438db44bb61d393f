# SPDX-License-Identifier: Apache-2.0
"""A demo whose ranks send spans, with a collector that takes them, is busy at first, hangs, or is not there.

spans_live.py <kvferry> <folder>
"""
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

program, folder = sys.argv[1], Path(sys.argv[2])
REQUESTS = 4


class Collector(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, behaviour):
        super().__init__(("127.0.0.1", 0), Answer)
        self.behaviour, self.bodies, self.calls = behaviour, [], 0
        self.over, self.lock = threading.Event(), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.calls += 1
            busy = self.server.behaviour == "busy" and self.server.calls == 1
            if not busy and self.server.behaviour != "hangs":
                assert self.path == "/v1/traces", self.path
                assert self.headers["Content-Type"] == "application/json"
                self.server.bodies.append(body.decode())
        if self.server.behaviour == "hangs":
            self.server.over.wait()
            return
        self.send_response(503 if busy else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def demo(url):
    """Both sides of a demo; it must pass whatever the collector does. Returns what it logs."""
    words = [program, "demo", "--model", "tiny", "--new-tokens", "4", "--json"]
    words += ["--context", "tp=2", "--generation", "pp=2", "--requests", str(REQUESTS)]
    ran = subprocess.run(
        words, env=dict(os.environ, KVFERRY_SPANS=url), capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0 and json.loads(ran.stdout)["passed"], ran.stdout + ran.stderr
    return ran.stderr


def spans_of(bodies):
    for body in bodies:
        for resource in json.loads(body)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]


class Rank:
    """`kvferry worker`, spoken to in lines."""

    def __init__(self, name, url):
        words = [program, "worker", "--instance", name, "--spans", url]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.ready = self.hear("ready")

    def hear(self, event):
        for line in self.process.stdout:
            said = json.loads(line)
            if said["event"] == event:
                return said
        raise AssertionError(self.process.stderr.read())

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def end(self):
        said = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == 0, said
        return said


def transfers(url, until):
    """Requests between two workers, which stop when `until` returns. Returns what they log."""
    context, generation = Rank("prefill", url), Rank("decode", url)
    slots = {"slots": [0, 1], "prompt_tokens": 32}
    for rid in range(1, REQUESTS + 1):
        context.tell(do="send", rid=rid, **slots)
        where = context.ready["info_endpoint"]
        generation.tell(do="receive", rid=rid, context=where, **slots)
        for rank in (context, generation):
            assert rank.hear("outcome")["state"] == "KV_TRANSFERRED"
            rank.hear("released")
    until()
    return generation.end() + context.end()


def check(bodies, receivers, senders):
    """Each request is a trace: receiving sessions, and below one of them those that send."""
    by_trace = {}
    for span in spans_of(bodies):
        by_trace.setdefault(span["traceId"], []).append(span)
    assert len(by_trace) == REQUESTS, by_trace
    for trace in by_trace.values():
        above = [span for span in trace if span["name"] == "kvferry receive"]
        below = [span for span in trace if span["name"] == "kvferry send"]
        assert len(above) == receivers and len(below) == senders, trace
        assert not any("parentSpanId" in span for span in above), trace
        ids = {span["spanId"] for span in above}
        assert all(span["parentSpanId"] in ids for span in below), trace


folder.mkdir(parents=True, exist_ok=True)
collector = Collector("takes")
demo(collector.url)
check(collector.bodies, 2, 2)
(folder / "takes.jsonl").write_text("\n".join(collector.bodies) + "\n", encoding="utf-8")

busy = Collector("busy")


def all_are_here():
    until = time.monotonic() + 60
    while len(list(spans_of(list(busy.bodies)))) < 2 * REQUESTS:
        assert time.monotonic() < until, busy.bodies


said = transfers(busy.url, all_are_here)
check(busy.bodies, 1, 1)
(folder / "busy.jsonl").write_text("\n".join(busy.bodies) + "\n", encoding="utf-8")
assert "503" in said, said

hanging = Collector("hangs")
said = transfers(hanging.url, lambda: None)
assert hanging.calls > 0
assert "does not take them" in said and "timed out" in said.lower(), said
hanging.over.set()

with socket.socket() as nobody:  # bound, and not listening
    nobody.bind(("127.0.0.1", 0))
    said = demo(f"http://127.0.0.1:{nobody.getsockname()[1]}")
assert "does not take them" in said, said

said = demo("127.0.0.1:4318")
assert "is not http://host:port" in said, said
print(f"{REQUESTS} requests, with a collector that takes, is busy, hangs, is away, and is none")
