# SPDX-License-Identifier: Apache-2.0
"""What kvferry does to its process, and what processes do to it."""

import asyncio
import ctypes
import multiprocessing
import os
import select
import subprocess
import sys
import threading
import time

import pytest

import kvferry
import soak
from test_transfer import make_pages, wait_for


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    here = os.path.dirname(__file__)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}"],
        timeout=60,
        capture_output=True,
        text=True,
    )


def test_a_forked_child_is_told_by_name_and_its_parent_goes_on():
    def in_child(answers):
        calls = [
            lambda: tx.send([0], prompt=16),
            lambda: tx.wait(30),
            lambda: asyncio.run(tx.outcome()),
            worker.poll,
            lambda: worker.wait(30),
            lambda: kvferry.Worker("another", pages),
        ]
        for call in calls:
            try:
                answers.put(call())
            except kvferry.Error as error:
                answers.put((error.code.name, error.text))
        worker.close()  # does nothing, and does not hang

    pages = make_pages()
    with kvferry.Worker("prefill", pages) as worker:
        tx = worker.open_tx(1)
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=in_child, args=(answers,))
        child.start()
        for _ in range(6):
            code, text = answers.get(timeout=30)
            assert code == "UNSUPPORTED" and "forked" in text
        child.join(30)
        assert child.exitcode == 0
        tx.cancel()
        assert [event.kind for event in wait_for(worker, 2)] == ["outcome", "released"]


def test_loading_it_leaves_signals_alone():
    done = run_python("""
def caught():
    return [line for line in open("/proc/self/status") if line.startswith(("SigCgt", "SigIgn"))]
import os
before, environment = caught(), dict(os.environ)
import kvferry
assert caught() == before, (before, caught())
assert dict(os.environ) == environment
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_ends_by_itself_whatever_is_still_open():
    done = run_python("""
import kvferry
import soak
from test_transfer import make_pages
worker = kvferry.Worker("prefill", make_pages())
tx = worker.send(1, [0], prompt=16)
print("end")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def test_a_transfer_ends_while_the_gil_is_held():
    with kvferry.Worker("prefill", make_pages()) as context:
        with kvferry.Worker("decode", make_pages()) as generation:
            rx = generation.receive(1, [0], prompt=16, source=context.endpoint)
            context.send(1, [0], prompt=16)
            # poll(2) by a call that keeps the GIL: no Python runs until it returns.
            asked = PollFd(generation.fileno(), select.POLLIN, 0)
            assert ctypes.PyDLL(None).poll(ctypes.byref(asked), 1, 30_000) == 1
            assert [event.kind for event in generation.poll()][0] == "outcome"
            assert rx.result().state == kvferry.State.KV_TRANSFERRED


def test_blocking_calls_release_the_gil():
    with kvferry.Worker("prefill", make_pages()) as worker:
        tx = worker.open_tx(1)
        woken = []
        thread = threading.Thread(target=lambda: woken.append(worker.wait()))
        thread.start()
        tx.cancel()  # would never run if the thread kept the GIL
        thread.join(30)
        assert not thread.is_alive() and woken[0]


def test_memory_is_flat_over_many_requests():
    soak.run(10_000)  # python tests/tools/python/soak.py: 100,000, with what they cost


def test_the_log_has_levels():
    kvferry.set_log_level("error")
    with pytest.raises(kvferry.Error, match="loud"):
        kvferry.set_log_level("loud")
    assert time.monotonic() > 0 and kvferry.__version__.count(".") == 2
