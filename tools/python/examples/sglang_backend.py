# SPDX-License-Identifier: Apache-2.0
"""What SGLang's schedulers do with the backend, for one request: a prefill and a decode rank in one process.

Run it: python tools/python/examples/sglang_backend.py
"""

import sys
from types import SimpleNamespace

import numpy as np
from kvferry.sglang import (
    KvferryKVBootstrapServer,
    KvferryKVManager,
    KvferryKVReceiver,
    KvferryKVSender,
)
from sglang.srt.disaggregation.base.conn import KVArgs, KVPoll

LAYERS, HEADS, DIM, PAGE, PAGES, ROOM = 4, 2, 64, 64, 16, 1234567


def start_rank(mode, bootstrap_port):
    """Pools in SGLang's order, keys of all layers and then values, and one buffer of small records."""
    pools = np.zeros((2 * LAYERS, PAGES, PAGE * HEADS * DIM), np.float16)
    records = np.zeros((4, 8), np.int32)
    args = KVArgs()
    args.engine_rank, args.system_dp_rank, args.prefill_start_layer = 0, 0, 0
    args.kv_head_num = args.total_kv_head_num = HEADS
    args.page_size, args.kv_cache_dtype_str = PAGE, "float16"
    args.kv_layer_ids, args.num_draft_entries, args.state_types = [], 0, []
    args.kv_data_ptrs = [pool.ctypes.data for pool in pools]
    args.kv_data_lens = [pool.nbytes for pool in pools]
    args.kv_item_lens = [pool[0].nbytes for pool in pools]
    args.aux_data_ptrs, args.aux_item_lens = [records.ctypes.data], [records[0].nbytes]
    server_args = SimpleNamespace(device="cpu", host="127.0.0.1", model_path="a model")
    server_args.tp_size, server_args.dp_size, server_args.pp_size = 1, 1, 1
    server_args.enable_dp_attention = False
    server_args.disaggregation_bootstrap_port = bootstrap_port
    return pools, records, KvferryKVManager(args, mode, server_args)


def wait(request, state):
    """A scheduler polls once per step."""
    while (now := request.poll()) != state:
        if now == KVPoll.Failed:
            request.failure_exception()


if __name__ == "__main__":
    server = KvferryKVBootstrapServer("127.0.0.1", 0)
    source, said, prefill = start_rank("prefill", server.port)
    target, heard, decode = start_rank("decode", 0)

    # Decode knows from its router where the prefill engine is, and by which number both call the request.
    sender = KvferryKVSender(prefill, "", ROOM)
    receiver = KvferryKVReceiver(decode, f"127.0.0.1:{server.port}", ROOM)
    receiver.init(prefill_dp_rank=0)
    wait(receiver, KVPoll.WaitingForInput)
    receiver.send_metadata(np.array([9, 2, 5], np.int32), aux_index=1)

    # Prefill computes in chunks. The last one takes the record along, with the first token.
    sender.init(num_kv_indices=3, aux_index=0)
    wait(sender, KVPoll.WaitingForInput)
    source[:] = np.random.default_rng(1).standard_normal(source.shape)
    said[0] = range(8)
    sender.send(np.array([0, 7], np.int32))
    sender.send(np.array([4], np.int32))

    # Success, as Failed, says that nobody touches the request's pages any more: both may reuse theirs.
    wait(sender, KVPoll.Success)
    wait(receiver, KVPoll.Success)
    same = (
        np.array_equal(source[:, [0, 7, 4]], target[:, [9, 2, 5]]) and (heard[1] == said[0]).all()
    )
    print(f"{receiver.get_transfer_metric().transfer_total_bytes} bytes")
    for part in (prefill, decode, server):
        part.close()
    sys.exit(None if same else "the pages differ")
