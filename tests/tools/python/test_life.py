# SPDX-License-Identifier: Apache-2.0
"""Leases, slots in doubt, layers as they arrive, and instances whose infos the engine carries."""

import asyncio

import numpy as np
import pytest

import kvferry
from kvferry import Code, State
from test_transfer import fill, holds, make_pages, pages_of, wait_for


@pytest.fixture
def pair():
    with (
        kvferry.Worker("prefill", make_pages()) as context,
        kvferry.Worker("decode", make_pages()) as generation,
    ):
        yield context, generation


def code_of(call):
    with pytest.raises(kvferry.Error) as failed:
        call()
    return failed.value.code


def test_a_lease_is_renewed_until_the_session_ends(pair):
    context, _ = pair
    kept = context.open_tx(1, deadline=0.05)
    left = context.open_tx(2, deadline=0.05)
    kept.extend(600)
    assert code_of(left.wait) == Code.DEADLINE_EXCEEDED
    assert code_of(lambda: left.extend(1)) == Code.GONE
    assert not kept.ended
    assert code_of(lambda: kept.extend(0)) == Code.INVALID_ARGUMENT
    assert code_of(lambda: kept.extend(100_000)) == Code.LIMIT_EXCEEDED
    kept.cancel()
    kept.wait_released(30)


def test_a_receiver_without_slots_keeps_the_sending_session():
    options = {"session_keep_interval": 0.005}
    with (
        kvferry.Worker("prefill", make_pages(), **options) as context,
        kvferry.Worker("decode", make_pages(), **options) as generation,
    ):
        fill(context, 1, 0x11)
        rx = generation.open_rx(1, context.endpoint)
        tx = context.open_tx(1, deadline=1)
        tx.send([1], prompt=16)
        assert code_of(context.open_tx(2, deadline=1).wait) == Code.DEADLINE_EXCEEDED
        rx.receive([2], prompt=16)
        assert rx.wait(30).state == State.KV_TRANSFERRED
        tx.wait_released(30)
        assert holds(generation, 2, 0x11)


def test_slots_in_doubt(pair):
    context, generation = pair
    rx = generation.receive(1, [3, kvferry.NO_SLOT, 1], prompt=48, source=context.endpoint)
    assert rx.slots_in_doubt() == [[1, 3]]
    rx.cancel()
    rx.wait_released(30)
    assert rx.slots_in_doubt() == []


def send_layers(context, tx, layers, last):
    for layer in layers:
        tx.send([5], prompt=16, layers=(layer, layer + 1), more=layer != last)


def test_layers_are_heard_of_as_they_arrive(pair):
    context, generation = pair
    fill(context, 5, 0x55)
    rx = generation.receive(1, [6], prompt=16, source=context.endpoint, tell_layers=True)
    tx = context.open_tx(1)
    send_layers(context, tx, [0], 3)
    rx.wait_layers(1, 30)
    assert rx.layers_end == 1 and not rx.ended
    assert code_of(lambda: rx.wait_layers(2, 0.01)) == Code.DEADLINE_EXCEEDED
    send_layers(context, tx, [1, 2, 3], 3)
    rx.wait_layers(4, 30)
    assert rx.wait(30).state == State.KV_TRANSFERRED
    assert rx.layers_end == kvferry.ALL_LAYERS
    rx.wait_layers(4)
    rx.wait_released(30)
    tx.wait_released(30)
    assert holds(generation, 6, 0x55)


def test_layers_are_awaited_and_a_failure_ends_the_wait(pair):
    context, generation = pair

    async def run():
        rx = generation.receive(1, [6], prompt=16, source=context.endpoint, tell_layers=True)
        tx = context.open_tx(1)
        waits = asyncio.ensure_future(rx.layers(2))
        send_layers(context, tx, [0, 1], 3)
        await asyncio.wait_for(waits, 30)
        assert rx.layers_end >= 2
        waits = asyncio.ensure_future(rx.layers(3))
        await asyncio.sleep(0)
        rx.cancel()
        with pytest.raises(kvferry.Error) as failed:
            await asyncio.wait_for(waits, 30)
        assert failed.value.code == Code.CANCELLED
        await rx.released()
        await tx.released()

    asyncio.run(run())


def test_layers_take_one_event_however_many_there_are(pair):
    context, generation = pair
    rx = generation.receive(1, [6], prompt=16, source=context.endpoint, tell_layers=True)
    tx = context.open_tx(1)
    send_layers(context, tx, [0, 1, 2, 3], 3)
    tx.wait_released(30)
    events = wait_for(generation, 2)
    while events[-1].kind != "released":
        events += generation.wait(30)
    kinds = [event.kind for event in events]
    assert kinds.count("outcome") == 1 and kinds[-1] == "released"
    ends = [event.piece for event in events if event.kind == "layers"]
    assert ends == sorted(set(ends)) and ends
    assert rx.is_released


def test_the_sending_host_hears_what_is_wanted(pair):
    context, generation = pair
    tx = context.open_tx(1, tell_ready=True)
    assert tx.wanted.receivers == 0
    rx = generation.receive(
        1, [kvferry.NO_SLOT, kvferry.NO_SLOT, 4], prompt=40, source=context.endpoint
    )
    (event,) = wait_for(context, 1)
    assert event.kind == "ready"
    assert tx.wanted == kvferry.Wanted(1, 40, 32, 1)
    rx.cancel()
    rx.wait_released(30)
    tx.wait_released(30)


def test_statistics_count_ends_by_reason(pair):
    context, generation = pair
    tx = context.open_tx(1)
    tx.cancel()
    tx.wait_released(30)
    rx = generation.receive(2, [0], prompt=16, source=context.endpoint)
    tx = context.send(2, [0], prompt=16)
    rx.wait_released(30)
    tx.wait_released(30)
    told = context.statistics()
    assert told.sessions_succeeded == 1
    assert told.sessions_failed == {Code.CANCELLED: 1}
    assert told.waited_seconds > 0 and told.transferred_seconds >= 0


def transfer(context, generation, source, rid):
    fill(context, 2, rid)
    rx = generation.receive(rid, [5], prompt=16, source=source)
    tx = context.send(rid, [2], prompt=16)
    assert rx.wait(30).state == State.KV_TRANSFERRED
    rx.wait_released(30)
    tx.wait_released(30)
    assert holds(generation, 5, rid)


def test_infos_that_the_engine_carries_instead_of_a_server():
    with kvferry.Worker("decode", make_pages(), info_server=False) as generation:
        with kvferry.Worker("prefill", make_pages(), info_server=False) as context:
            assert context.endpoint == "@prefill"
            source = generation.add_instance([context.local_info()])
            assert source == "@prefill"
            generation.connect(source)
            transfer(context, generation, source, 1)
        with kvferry.Worker("prefill", make_pages(), info_server=False) as context:
            generation.add_instance([context.local_info()])  # started anew
            transfer(context, generation, source, 2)
            generation.remove_instance(source)
            lost = generation.receive(3, [0], prompt=16, source=source)
            assert code_of(lost.wait) == Code.INSTANCE_INCOMPLETE
        with kvferry.Worker("served", make_pages()) as context:
            transfer(context, generation, context.endpoint, 4)


def test_infos_that_are_wrong_are_refused_by_name():
    with (
        kvferry.Worker("prefill", make_pages(), info_server=False) as context,
        kvferry.Worker("decode", make_pages()) as generation,
    ):
        info = context.local_info()
        foreign = bytearray(info)
        foreign[5] += 1  # the version, behind the magic
        for wrong, code in [
            ([], Code.INVALID_ARGUMENT),
            ([b"hello"], Code.MALFORMED_MESSAGE),
            ([info[:-1]], Code.MALFORMED_MESSAGE),
            ([bytes(foreign)], Code.PROTOCOL_MISMATCH),
            ([info, info], Code.DUPLICATE),
        ]:
            assert code_of(lambda: generation.add_instance(wrong)) == code
        place = kvferry.Parallelism([4], tp_size=2)
        half = kvferry.Pages.from_model(
            layers=4, kv_heads=2, head_dim=8, tokens_per_block=16, slots=8, place=place
        )
        with kvferry.Worker("halves", half, info_server=False) as rank:
            assert code_of(lambda: generation.add_instance([rank.local_info()])) == (
                Code.INSTANCE_INCOMPLETE
            )
    unpublished = kvferry.Worker("none", place=kvferry.Parallelism([4]), info_server=False)
    with unpublished:
        assert code_of(unpublished.local_info) == Code.MISSING_LAYOUT


def test_pages_of_a_compressed_cache_and_of_dealt_tokens():
    import numpy as np

    cache = np.zeros((8, 4, 16), np.uint16)
    place = kvferry.Parallelism([1], cp_size=2)
    kvferry.Pages.from_tensors(
        [kvferry.Tensor(cache, "block token dim", layers=0, role="latent", tokens_per_row=4)],
        kvferry.Parallelism([1]),
    )
    kvferry.Pages.from_tensors(
        [kvferry.Tensor(cache, "block token dim", layers=0, role="latent", tokens_are_dealt=True)],
        place,
    )


def test_the_way_into_memory_is_told_when_it_is_published(pair):
    context, _ = pair
    assert context.memory_routes == ("mapped",)
    context.unpublish()
    assert context.memory_routes == ()
    plain = np.zeros((2, 8, 16, 2, 8), np.uint16)
    tensor = kvferry.Tensor(plain, "kv block token head dim", layers=0, heads=2)
    context.publish(kvferry.Pages.from_tensors([tensor], kvferry.Parallelism([1])))
    (route,) = context.memory_routes
    assert route.startswith("direct: ") and "memfd" in route


def test_a_session_has_a_priority_or_is_refused_by_name(pair):
    context, generation = pair
    fill(context, 5, 0x66)
    for rid, (sent, wanted) in enumerate([("low", "high"), (None, "low"), ("normal", None)], 1):
        tx = context.send(rid, [5], prompt=16, priority=sent)
        rx = generation.receive(
            rid, [6], prompt=16, source=context.endpoint, priority=wanted
        )
        assert rx.wait(30).state == State.KV_TRANSFERRED
        rx.wait_released(30)
        tx.wait_released(30)
    with pytest.raises(ValueError, match="urgent"):
        context.open_tx(9, priority="urgent")
