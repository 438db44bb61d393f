# SPDX-License-Identifier: Apache-2.0
"""Tensors of torch, where it is installed."""

import pytest

import kvferry

torch = pytest.importorskip("torch")


def make(device, dims, shape, memory=None):
    if memory is not None:
        cache = torch.frombuffer(
            memory.view, dtype=torch.bfloat16, count=torch.Size(shape).numel()
        ).view(shape)
    else:
        cache = torch.zeros(shape, dtype=torch.bfloat16, device=device)
    pages = kvferry.Pages.from_tensors(
        [kvferry.Tensor(cache, dims, 0, heads=2)], kvferry.Parallelism([1])
    )
    return cache, pages


def check(device, memory=None):
    source, from_pages = make(device, "kv block token head dim", (2, 4, 16, 2, 8), memory)
    target, to_pages = make(device, "block kv head token dim", (8, 2, 2, 8, 8))
    source.copy_(torch.randn(source.shape))
    with kvferry.Worker("prefill", from_pages) as context, kvferry.Worker(
        "decode", to_pages
    ) as generation:
        rx = generation.receive(
            1, torch.tensor([6, 1, 0], dtype=torch.int32), prompt=24, source=context.endpoint
        )
        tx = context.send(1, torch.tensor([3, 1], dtype=torch.int32), prompt=24)
        outcome = rx.wait(60)
        rx.wait_released(60)
        tx.wait_released(60)
    sent = torch.cat([source[:, 3], source[:, 1]], 1)[:, :24]  # kv token head dim
    came = torch.cat([target[slot].transpose(1, 2) for slot in (6, 1, 0)], 1)
    assert torch.equal(sent.cpu(), came.cpu())
    return outcome.peers[0].way


def test_host_memory():
    assert check("cpu") != "mapped"


def test_host_memory_of_kvferry_is_mapped_where_both_have_it():
    source, from_pages = make(
        "cpu", "kv block token head dim", (2, 4, 16, 2, 8), kvferry.Memory(1 << 16)
    )
    target, to_pages = make(
        "cpu", "kv block token head dim", (2, 4, 16, 2, 8), kvferry.Memory(1 << 16)
    )
    source.copy_(torch.randn(source.shape))
    with kvferry.Worker("prefill", from_pages) as context, kvferry.Worker(
        "decode", to_pages
    ) as generation:
        rx = generation.receive(1, [2], prompt=16, source=context.endpoint)
        context.send(1, [1], prompt=16)
        assert rx.wait(60).peers[0].way == "mapped"
        rx.wait_released(60)
    assert torch.equal(source[:, 1], target[:, 2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_memory_is_read_behind_the_current_stream():
    assert check("cuda") == "mapped"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_that_kvferry_allocates_on_a_device():
    memory = kvferry.DeviceMemory(2 * 4 * 16 * 2 * 8 * 2)
    cache = torch.as_tensor(memory, device="cuda:0").view(torch.bfloat16).view(2, 4, 16, 2, 8)
    cache.copy_(torch.randn(cache.shape))
    assert cache.data_ptr() == memory.address
    pages = kvferry.Pages.from_tensors(
        [kvferry.Tensor(cache, "kv block token head dim", 0, heads=2)], kvferry.Parallelism([1])
    )
    with kvferry.Worker("prefill", pages) as context, kvferry.Worker("decode", pages) as generation:
        rx = generation.receive(1, [2], prompt=16, source=context.endpoint)
        context.send(1, [1], prompt=16)
        assert rx.wait(60).peers[0].way == "mapped"
        rx.wait_released(60)
    assert torch.equal(cache[:, 1], cache[:, 2])
