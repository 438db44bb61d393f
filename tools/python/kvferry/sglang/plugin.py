# SPDX-License-Identifier: Apache-2.0
"""The plugin that SGLang finds by its entry point (`sglang.srt.plugins`) where kvferry is installed:
--disaggregation-transfer-backend kvferry."""

from typing import Any, Callable

NAME = "kvferry"


def register() -> None:
    """Called by SGLang in each of its processes, before it reads its arguments."""
    from sglang.srt.arg_groups import choices
    from sglang.srt.disaggregation.utils import TransferBackend
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if NAME not in choices.DISAGG_TRANSFER_BACKEND_CHOICES:
        choices.add_disagg_transfer_backend_choices([NAME])
    _add_member(TransferBackend)
    HookRegistry.register(
        "sglang.srt.disaggregation.utils.get_kv_class", _kv_class, HookType.AROUND
    )


def _add_member(backends: Any) -> None:
    """SGLang's list of backends is an enumeration, which has no call for one more."""
    if NAME in backends._value2member_map_:
        return
    member = object.__new__(backends)
    member._name_, member._value_ = NAME.upper(), NAME
    member.__objclass__, member._sort_order_ = backends, len(backends._member_names_)
    backends._member_names_.append(NAME.upper())
    backends._member_map_[NAME.upper()] = member
    backends._value2member_map_[NAME] = member


def _kv_class(original: Callable[[Any, Any], Any], backend: Any, kind: Any) -> Any:
    if getattr(backend, "value", backend) != NAME or kind.value == "kvargs":
        return original(backend, kind)
    from . import (
        KvferryKVBootstrapServer,
        KvferryKVManager,
        KvferryKVReceiver,
        KvferryKVSender,
    )

    return {
        "manager": KvferryKVManager,
        "sender": KvferryKVSender,
        "receiver": KvferryKVReceiver,
        "bootstrap_server": KvferryKVBootstrapServer,
    }[kind.value]
