# SPDX-License-Identifier: Apache-2.0
"""The backend in the hands of what SGLang's schedulers do, prefill and decode in two processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import numpy as np
import pytest

pytest.importorskip("sglang.srt.disaggregation.base.conn", exc_type=ImportError)
from kvferry.sglang import (  # noqa: E402
    KvferryKVBootstrapServer,
    KvferryKVManager,
    KvferryKVReceiver,
    KvferryKVSender,
    KVTransferError,
)
from sglang.srt.disaggregation.base.conn import KVArgs, KVPoll  # noqa: E402

LAYERS, HEADS, DIM, TOKENS = 3, 2, 16, 1024
EXAMPLE = Path(__file__).parents[4] / "tools/python/examples/sglang_backend.py"


class Engine:
    """The pools of one scheduler, in SGLang's order: keys of all layers, then values."""

    def __init__(self, mode: str, page_size: int, bootstrap_port: int) -> None:
        self.page_size = page_size
        self.pools = np.zeros((2 * LAYERS, TOKENS, HEADS * DIM), np.uint16)
        self.aux = [np.zeros((8, 4), np.int64), np.zeros((8, 16), np.float32)]
        args = KVArgs()
        args.engine_rank = args.pp_rank = args.system_dp_rank = args.gpu_id = 0
        args.prefill_start_layer, args.num_draft_entries, args.kv_layer_ids = 0, 0, []
        args.kv_cache_dtype_str, args.page_size = "bfloat16", page_size
        args.kv_head_num = args.total_kv_head_num = HEADS
        args.kv_data_ptrs = [pool.ctypes.data for pool in self.pools]
        args.kv_data_lens = [pool.nbytes for pool in self.pools]
        args.kv_item_lens = [page_size * HEADS * DIM * 2] * len(self.pools)
        args.aux_data_ptrs = [buffer.ctypes.data for buffer in self.aux]
        args.aux_data_lens = [buffer.nbytes for buffer in self.aux]
        args.aux_item_lens = [buffer[0].nbytes for buffer in self.aux]
        args.state_types = []
        server_args: Any = SimpleNamespace(
            tp_size=1, dp_size=1, pp_size=1, enable_dp_attention=False, device="cpu",
            host="127.0.0.1", model_path="a model", disaggregation_bootstrap_port=bootstrap_port,
        )  # fmt: skip
        self.manager = KvferryKVManager(args, mode, server_args, session_deadline=20)

    def tokens(self, pages: List[int]) -> np.ndarray:
        slots = np.array(pages)[:, None] * self.page_size + np.arange(self.page_size)
        return slots.reshape(-1)


def content(room: int, tokens: int) -> np.ndarray:
    """[pool][token][element] of a request, by its indexes alone."""
    pool, token, element = np.ix_(range(2 * LAYERS), range(tokens), range(HEADS * DIM))
    return ((room % 1000 * 31 + pool * 7919 + token * 131 + element) % 65521).astype(np.uint16)


def until(request: Any, *states: int) -> int:
    """Polls, as a scheduler does once per step."""
    end = time.monotonic() + 20
    while (state := request.poll()) not in states:
        assert time.monotonic() < end, f"still {state}"
    return int(state)


def prefill(pipe: Any, page_size: int, bootstrap_port: int) -> None:
    """(room, pages, chunks, then): computes and sends; then "abort" or "freeze" instead of the last chunk."""
    engine = Engine("prefill", page_size, bootstrap_port)
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        room, count, chunks, then = asked
        pages = list(range(3, 3 + 2 * count, 2))
        sender = KvferryKVSender(engine.manager, "", room)
        sender.init(count, 5)
        state = until(sender, KVPoll.WaitingForInput, KVPoll.Failed)
        if state == KVPoll.WaitingForInput:
            engine.pools[:, engine.tokens(pages)] = content(room, count * page_size)
            engine.aux[0][5], engine.aux[1][5] = room, room / 2
            parts = np.array_split(np.array(pages, np.int32), chunks)
            for part in parts[: -1 if then else None]:
                sender.send(part)
            if then == "abort":
                sender.abort()
            if then == "freeze":
                pipe.send("frozen")
                signal.pause()
            state = until(sender, KVPoll.Success, KVPoll.Failed)
        pipe.send((state, sender.get_transfer_metric().transfer_total_bytes))
        sender.clear()
    engine.manager.close()


class Prefill:
    def __init__(self, page_size: int, bootstrap_port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=prefill, args=(theirs, page_size, bootstrap_port))
        self.process.start()
        assert self.pipe.recv() == "ready"

    def ask(self, *what: Any) -> None:
        self.pipe.send(what)

    def stop(self) -> None:
        self.pipe.send(None)
        self.process.join(60)
        assert self.process.exitcode == 0


class Pair:
    def __init__(self, page_size: int) -> None:
        self.page_size, self.room = page_size, 1 << 61
        self.server = KvferryKVBootstrapServer("127.0.0.1", 0)
        self.prefill = Prefill(page_size, self.server.port)
        self.decode = Engine("decode", page_size, 0)

    def receiver(self) -> KvferryKVReceiver:
        self.room += 1
        receiver = KvferryKVReceiver(
            self.decode.manager, f"127.0.0.1:{self.server.port}", self.room
        )
        receiver.init(0)
        until(receiver, KVPoll.WaitingForInput)
        return receiver

    def pages(self, count: int) -> np.ndarray:
        places = TOKENS // self.page_size
        return np.random.default_rng(self.room).permutation(places)[:count].astype(np.int32)

    def moves(self, count: int, chunks: int, prefix: int = 0) -> None:
        receiver, pages = self.receiver(), self.pages(count)
        self.decode.pools[:] = 0
        receiver.send_metadata(pages[prefix:], 2, decode_prefix_len=prefix * self.page_size or None)
        self.prefill.ask(self.room, count, chunks, None)
        assert until(receiver, KVPoll.Success, KVPoll.Failed) == KVPoll.Success
        state, sent = self.prefill.pipe.recv()
        assert state == KVPoll.Success
        tokens = self.decode.tokens(pages.tolist())
        begin = prefix * self.page_size
        expected = content(self.room, count * self.page_size)
        assert np.array_equal(self.decode.pools[:, tokens[begin:]], expected[:, begin:])
        written = np.count_nonzero(self.decode.pools)  # nothing else was touched
        assert written == np.count_nonzero(expected[:, begin:])
        assert sent == expected[:, begin:].nbytes
        assert receiver.get_transfer_metric().transfer_total_bytes == sent
        assert self.decode.aux[0][2].tolist() == [self.room] * 4
        assert self.decode.aux[1][2][0] == np.float32(self.room / 2)
        receiver.clear()

    def close(self) -> None:
        self.prefill.stop()
        self.decode.manager.close()
        self.server.close()


@pytest.fixture(scope="module", params=[1, 64])
def pair(request: pytest.FixtureRequest) -> Any:
    result = Pair(request.param)
    yield result
    result.close()


@pytest.mark.parametrize("chunks", [1, 3])
def test_pages_and_aux(pair: Pair, chunks: int) -> None:
    for count in (7, 4):
        pair.moves(count, chunks)


def test_a_prefix_that_decode_has_is_not_moved(pair: Pair) -> None:
    pair.moves(6, 2, prefix=3)
    pair.moves(5, 1, prefix=5)


def failed(pair: Pair, receiver: KvferryKVReceiver, reason: str) -> None:
    assert until(receiver, KVPoll.Failed, KVPoll.Success) == KVPoll.Failed
    with pytest.raises(KVTransferError, match=reason):
        receiver.failure_exception()
    assert pair.decode.manager.is_abort_release_safe(receiver.bootstrap_room)
    receiver.clear()


def test_decode_aborts(pair: Pair) -> None:
    receiver = pair.receiver()  # before it named its pages
    receiver.abort()
    failed(pair, receiver, "aborted by SGLang")
    receiver = pair.receiver()  # afterwards
    receiver.send_metadata(pair.pages(4), 2)
    receiver.abort()
    assert receiver.abort_notified
    failed(pair, receiver, "aborted by SGLang")
    pair.prefill.ask(pair.room, 4, 1, None)  # prefill learns of it, whenever it comes to it
    assert pair.prefill.pipe.recv()[0] == KVPoll.Failed
    pair.moves(4, 1)


@pytest.mark.parametrize("chunks", [1, 2])
def test_prefill_aborts(pair: Pair, chunks: int) -> None:
    receiver = pair.receiver()
    receiver.send_metadata(pair.pages(6), 2)
    pair.prefill.ask(pair.room, 6, chunks, "abort")
    failed(pair, receiver, "cancelled")
    assert pair.prefill.pipe.recv()[0] == KVPoll.Failed
    pair.moves(4, 1)


def test_prefill_is_killed_and_another_takes_its_place(pair: Pair) -> None:
    receiver = pair.receiver()
    receiver.send_metadata(pair.pages(6), 2)
    pair.prefill.ask(pair.room, 6, 2, "freeze")
    assert pair.prefill.pipe.recv() == "frozen"
    assert receiver.poll() == KVPoll.Transferring
    assert not pair.decode.manager.is_abort_release_safe(receiver.bootstrap_room)
    assert pair.prefill.process.pid is not None
    os.kill(pair.prefill.process.pid, signal.SIGKILL)
    failed(pair, receiver, "peer_gone|link_lost")
    pair.prefill.process.join()
    pair.prefill = Prefill(pair.page_size, pair.server.port)
    pair.moves(4, 1)


def test_the_example() -> None:
    subprocess.run([sys.executable, str(EXAMPLE)], check=True, timeout=120)


def test_nobody_at_the_bootstrap_address() -> None:
    server = KvferryKVBootstrapServer("127.0.0.1", 0)
    server.close()
    engine = Engine("decode", 1, 0)
    receiver = KvferryKVReceiver(engine.manager, f"127.0.0.1:{server.port}", 1)
    receiver.init(0)
    assert until(receiver, KVPoll.Failed) == KVPoll.Failed
    engine.manager.close()
