# SPDX-License-Identifier: Apache-2.0
"""A transfer backend of SGLang's prefill-decode disaggregation, against sglang.srt.disaggregation.base.

Four classes in the shapes that SGLang makes of each backend. They hold SGLang's own promise for it: a poll
says Success or Failed when nobody touches the request's pages any more, not when a deadline has passed.
"""

from .bootstrap import KvferryKVBootstrapServer
from .manager import KvferryKVManager
from .transfers import KvferryKVReceiver, KvferryKVSender, KVTransferError

__all__ = [
    "KVTransferError",
    "KvferryKVBootstrapServer",
    "KvferryKVManager",
    "KvferryKVReceiver",
    "KvferryKVSender",
]
