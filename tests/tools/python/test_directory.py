# SPDX-License-Identifier: Apache-2.0
"""Instances by name: what is refused without etcd, and a real one where it is installed."""

import shutil
import socket
import subprocess
import time

import pytest

import kvferry


def place():
    return kvferry.Parallelism([2])


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_directory_that_is_no_url_and_a_role_that_is_none_are_refused():
    with pytest.raises(kvferry.Error) as refused:
        kvferry.Worker(
            "decode-0", place=place(), directory=kvferry.Directory("127.0.0.1:2379")
        )
    assert refused.value.code == kvferry.Code.INVALID_ARGUMENT
    assert "is not http://host:port" in str(refused.value)
    with pytest.raises(kvferry.Error) as half:
        kvferry.Worker(
            "decode-0",
            place=place(),
            directory=kvferry.Directory("https://127.0.0.1:1", user="ranks"),
        )
    assert "a user needs a password" in str(half.value)
    with pytest.raises(ValueError):
        kvferry.Worker("decode-0", place=place(), role="router")


def test_without_a_directory_there_is_no_role_to_change():
    with kvferry.Worker("decode-0", place=place()) as worker:
        with pytest.raises(kvferry.Error) as refused:
            worker.set_role("context")
        assert refused.value.code == kvferry.Code.UNSUPPORTED
        with pytest.raises(ValueError):
            worker.set_role("router")


def make_pages():
    return kvferry.Pages.from_model(
        layers=2, kv_heads=2, head_dim=8, tokens_per_block=16, slots=4
    )


def test_while_etcd_is_away_a_name_is_not_found_and_the_error_says_where_it_was_looked_for():
    url = f"http://127.0.0.1:{free_port()}"
    where = kvferry.Directory(url)
    with kvferry.Worker("decode-0", make_pages(), directory=where, info_deadline=1.0) as worker:
        rx = worker.receive(1, [0], prompt=16, source="etcd:prefill-3", deadline=3.0)
        with pytest.raises(kvferry.Error) as lost:
            rx.wait()
        assert f"etcd at {url}" in str(lost.value)


@pytest.fixture
def etcd(tmp_path):
    if not shutil.which("etcd"):
        pytest.skip("etcd is not installed")
    url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    process = subprocess.Popen(
        ["etcd", "--data-dir", str(tmp_path), "--listen-client-urls", url]
        + ["--advertise-client-urls", url, "--listen-peer-urls", peers]
        + ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any("ready to serve client requests" in line for line in process.stderr)
    yield url
    process.kill()
    process.communicate()


def test_a_worker_is_found_by_its_name_and_lists_its_role(etcd):
    where = kvferry.Directory(etcd, prefix="/test/", lease=2)
    sent, received = make_pages(), make_pages()
    sent.slot(0)[:] = bytes([7]) * len(sent.slot(0))
    with kvferry.Worker("prefill-3", sent, directory=where, role="context") as context:
        with kvferry.Worker("decode-0", received, directory=where) as generation:
            tx = context.send(1, [0], prompt=16)
            rx = generation.receive(1, [2], prompt=16, source="etcd:prefill-3")
            rx.wait()
            tx.wait()
            assert bytes(received.slot(2)) == bytes(sent.slot(0))
            context.set_role("generation")
            until = time.monotonic() + 20
            while '"role":"generation"' not in listed(etcd, "/test/prefill-3"):
                assert time.monotonic() < until


def listed(url, key):
    import base64
    import json
    import urllib.request

    question = json.dumps({"key": base64.b64encode(key.encode()).decode()}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/v3/kv/range", question, timeout=10) as answer:
        values = json.load(answer).get("kvs", [])
    return "".join(base64.b64decode(each["value"]).decode() for each in values)
