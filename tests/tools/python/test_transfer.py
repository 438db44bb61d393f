# SPDX-License-Identifier: Apache-2.0
"""Sessions from a plain thread: ends of every kind, events, what a session holds."""

import array
import gc
import select
import weakref

import numpy as np
import pytest

import kvferry
from kvferry import Code, State


def make_pages(slots=8):
    return kvferry.Pages.from_model(
        layers=4, kv_heads=2, head_dim=8, tokens_per_block=16, slots=slots
    )


@pytest.fixture
def pair():
    with kvferry.Worker("prefill", make_pages()) as context, kvferry.Worker(
        "decode", make_pages()
    ) as generation:
        yield context, generation


def pages_of(worker):
    return worker._pages[0]


def fill(worker, slot, value):
    view = pages_of(worker).slot(slot)
    view[:] = bytes([value]) * len(view)


def holds(worker, slot, value):
    view = pages_of(worker).slot(slot)
    return bytes(view) == bytes([value]) * len(view)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        lambda x: array.array("i", x),
        lambda x: array.array("q", x),
        lambda x: np.array(x, np.int32),
        lambda x: np.array(x, np.int64),
        lambda x: np.array(x * 2, np.int32).reshape(2, -1)[0],
        lambda x: [list(x)],
        lambda x: (np.array(x, np.int32),),
        lambda x: memoryview(array.array("i", x)),
    ],
)
def test_slots_of_every_kind_are_copied_before_the_call_returns(pair, kind):
    context, generation = pair
    given, wanted = kind([5, 0]), kind([1, 7])
    fill(context, 5, 0x15)
    fill(context, 0, 0x10)
    rx = generation.receive(1, wanted, prompt=32, source=context.endpoint)
    tx = context.send(1, given, prompt=32)
    for slots in (given, wanted):
        if isinstance(slots, np.ndarray):
            slots[:] = -9
    outcome = rx.wait(30)
    assert outcome.state == State.KV_TRANSFERRED
    assert outcome.bytes == 2 * len(pages_of(generation).slot(0))
    assert [peer.route for peer in outcome.peers] == ["mapped"]
    assert [peer.way for peer in outcome.peers] == ["mapped"]
    assert outcome.aux is None and outcome.layers_skipped == () and outcome.roles_skipped == ()
    rx.wait_released(30)
    tx.wait_released(30)
    assert rx.ended and rx.is_released
    assert holds(generation, 1, 0x15) and holds(generation, 7, 0x10)


def test_layers_travel_one_by_one_and_none_may_be_missing(pair):
    context, generation = pair
    fill(context, 3, 0x33)
    tx = context.open_tx(1)
    rx = generation.receive(1, [6], prompt=16, source=context.endpoint)
    for layer in (2, 0, 3, 1):
        tx.send([3], prompt=16, layers=(layer, layer + 1), more=layer != 1)
    assert rx.wait(30).state == State.KV_TRANSFERRED
    assert holds(generation, 6, 0x33)
    tx.wait_released(30)

    tx = context.open_tx(2)
    rx = generation.receive(2, [6], prompt=16, source=context.endpoint)
    tx.send([3], prompt=16, layers=(0, 3))
    with pytest.raises(kvferry.Error, match="speaks for token 0 in layer 3") as failed:
        rx.wait(30)
    assert failed.value.code == Code.PLAN_INVALID
    rx.wait_released(30)


def test_a_name_has_one_rid():
    assert kvferry.rid_of("") == 0x2D06800538D394C2 >> 1
    assert kvferry.rid_of("chatcmpl-7") == kvferry.rid_of("chatcmpl-" + "7") < 1 << 63
    assert kvferry.rid_of("a") != kvferry.rid_of("b")


def test_slots_that_are_no_numbers_leave_nothing_open(pair):
    context, _ = pair
    with pytest.raises(ValueError, match="dimensions"):
        context.send(1, np.zeros((2, 2), np.int32), prompt=32)
    with pytest.raises(TypeError):
        context.send(2, ["a"], prompt=32)
    with pytest.raises(OverflowError):
        context.send(3, [1 << 40], prompt=32)
    for event in wait_for(context, 6):
        assert event.kind == "released" or event.code == Code.CANCELLED
    assert context.statistics().sessions_live == 0


def wait_for(worker, count):
    events = []
    while len(events) < count:
        events += worker.wait(30)
    return events


def test_aux_pieces_and_readiness(pair):
    context, generation = pair
    tx = context.open_tx(5, aux=True, tell_ready=True, tell_pieces=True)
    rx = generation.receive(5, [0, 1], prompt=32, source=context.endpoint, aux=True)
    assert [event.kind for event in context.wait(30)] == ["ready"]
    tx.send([2], prompt=32, tokens=(0, 16), more=True)
    tx.send([3], prompt=32, tokens=(16, 32), first_block=1)
    record = kvferry.Aux([42], np.array([1, 2, 3], np.int32), 32, 4, b"any")
    tx.send_aux(record)
    outcome = rx.wait(30)
    assert outcome.state == State.FULLY_TRANSFERRED
    assert outcome.aux == kvferry.Aux((42,), (1, 2, 3), 32, 4, b"any")
    tx.wait_released(30)
    assert tx.result().aux is None or tx.result().aux == kvferry.Aux()


def test_failures_are_exceptions_with_code_and_text(pair):
    context, generation = pair
    lonely = generation.receive(2, [0], prompt=16, source="127.0.0.1:1")
    with pytest.raises(kvferry.Error) as failed:
        lonely.wait(30)
    assert failed.value.code == Code.DIAL_FAILED
    assert str(failed.value).startswith("dial_failed: ") and failed.value.text
    lonely.wait_released(30)

    pending = context.send(3, [0], prompt=16)
    with pytest.raises(kvferry.Error) as none_yet:
        pending.result()
    assert none_yet.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(kvferry.Error) as too_early:
        pending.wait(0)
    assert too_early.value.code == Code.DEADLINE_EXCEEDED
    assert pending.waits_for()
    pending.cancel("the user left")
    with pytest.raises(kvferry.Error, match="the user left") as cancelled:
        pending.wait(30)
    assert cancelled.value.code == Code.CANCELLED
    pending.wait_released(30)
    with pytest.raises(kvferry.Error) as late:
        pending.send([0], prompt=16)
    assert late.value.code == Code.GONE
    pending.cancel()

    with pytest.raises(ValueError, match="rid"):
        context.open_tx(-1)
    with pytest.raises(ValueError, match="route"):
        kvferry.Worker("x", make_pages(), route="scenic")
    with pytest.raises(ValueError, match="place"):
        kvferry.Worker("x")
    with pytest.raises(kvferry.Error, match="instance"):
        kvferry.Worker("", make_pages())
    assert repr(pending).startswith("<kvferry.Tx rid 3")
    assert Code(77).name == "CODE_77"


def test_an_engine_that_polls(pair):
    context, generation = pair
    assert context.poll() == []
    assert select.select([context], [], [], 0)[0] == []
    rx = generation.receive(9, [1], prompt=16, source=context.endpoint)
    tx = context.send(9, [1], prompt=16)
    rx.wait_released(30)
    assert select.select([context], [], [], 30)[0] == [context]
    events = wait_for(context, 2)
    assert [(event.kind, event.session, event.rid, event.code) for event in events] == [
        ("outcome", tx, 9, Code.OK),
        ("released", tx, 9, Code.OK),
    ]
    assert events[0].state == State.KV_TRANSFERRED and events[0].elapsed_seconds > 0
    assert events[0].bytes == rx.result().bytes
    assert select.select([context], [], [], 0)[0] == []
    assert context.wait(0) == []


def test_a_full_queue_is_an_error_until_events_are_taken():
    with kvferry.Worker("prefill", make_pages(), events_max=4) as context:
        sessions = [context.send(rid, [0], prompt=16) for rid in (1, 2)]
        with pytest.raises(kvferry.Error, match="events_max = 4") as full:
            context.send(3, [0], prompt=16)
        assert full.value.code == Code.LIMIT_EXCEEDED
        for session in sessions:
            session.cancel()
        wait_for(context, 4)
        context.send(3, [0], prompt=16)


def test_close_ends_all_and_everything_answers_afterwards():
    pages = make_pages()
    worker = kvferry.Worker("prefill", pages)
    tx = worker.send(1, [0], prompt=16)
    worker.stop()
    with pytest.raises(kvferry.Error) as ended:
        tx.wait(30)
    assert ended.value.code in (Code.STOPPED, Code.CANCELLED)
    late = worker.open_tx(2)
    with pytest.raises(kvferry.Error) as stopped:
        late.wait(30)
    assert stopped.value.code == Code.STOPPED
    given = worker.send(3, [0], prompt=16)  # its failure is its outcome here, too
    with pytest.raises(kvferry.Error, match="stopped"):
        given.wait(30)
    worker.close()
    worker.close()
    assert worker.poll() == []
    for call in (
        lambda: worker.open_tx(1),
        lambda: worker.endpoint,
        worker.statistics,
        worker.stop,
        worker.drain,
        lambda: worker.wait(0),
        lambda: worker.publish(pages),
        lambda: tx.send([1], prompt=16),
        tx.cancel,
    ):
        with pytest.raises(kvferry.Error) as gone:
            call()
        assert gone.value.code == Code.GONE
    assert "closed" in repr(worker)


def test_nothing_of_a_session_or_a_worker_is_left(pair):
    context, generation = pair
    rx = generation.receive(1, [1], prompt=16, source=context.endpoint)
    tx = context.send(1, [1], prompt=16)
    rx.wait_released(30)
    tx.wait_released(30)
    dropped = context.send(2, [1], prompt=16)  # lives on until it is released
    alive = weakref.ref(dropped)
    del dropped
    assert alive() is not None
    alive().cancel()
    wait_for(context, 2)
    gone = [weakref.ref(rx), weakref.ref(tx), alive]
    del rx, tx
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3

    pages = make_pages()
    memory = weakref.ref(pages.memory)
    with kvferry.Worker("other", pages):
        del pages
        gc.collect()
        assert memory() is not None
    gc.collect()
    assert memory() is None


def test_a_view_keeps_its_memory():
    memory = kvferry.Memory(1 << 16, "view", prefault=True)
    array_of = np.frombuffer(memory.view, np.uint8)
    alive = weakref.ref(memory)
    del memory
    gc.collect()
    array_of[:] = 7
    assert alive() is not None
    del array_of
    gc.collect()
    assert alive() is None


def test_memory_of_a_device_that_is_not_there_is_refused_by_name():
    with pytest.raises(kvferry.Error, match="cuda:99|CUDA") as refused:
        kvferry.DeviceMemory(1 << 20, 99)
    assert refused.value.code == Code.UNSUPPORTED
    with pytest.raises(kvferry.Error, match="bytes"):
        kvferry.DeviceMemory(0)
