# SPDX-License-Identifier: Apache-2.0
"""kvferry inside vLLM: --kv-transfer-config with

    {"kv_connector": "KvferryConnector", "kv_connector_module_path": "kvferry.vllm",
     "kv_role": "kv_producer"}      (prefill; "kv_consumer" for decode)

A request to the prefill engine carries kv_transfer_params {"do_remote_decode": true} and max_tokens 1; the
kv_transfer_params of its answer go, as they are, with the request to the decode engine.
"""

from .connector import KvferryConnector

__all__ = ["KvferryConnector"]
