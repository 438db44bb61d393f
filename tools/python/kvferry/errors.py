# SPDX-License-Identifier: Apache-2.0
"""How things end: states, and what can go wrong as a code for programs and a text for people."""

import enum


class State(enum.IntEnum):
    """Outcome of a session."""

    PENDING = 0
    KV_TRANSFERRED = 3
    FULLY_TRANSFERRED = 4
    ERROR = 5
    CANCELLED = 6


class Code(enum.IntEnum):
    """Why something failed; numbers as in kvferry.h."""

    OK = 0
    INVALID_ARGUMENT = 1
    MALFORMED_MESSAGE = 2
    PROTOCOL_MISMATCH = 3
    FOREIGN_PEER = 4
    STALE_INCARNATION = 5
    LAYOUT_MISMATCH = 6
    MISSING_LAYOUT = 7
    PLAN_INVALID = 8
    LIMIT_EXCEEDED = 9
    INSTANCE_INCOMPLETE = 10
    REGISTRATION_FAILED = 11
    DIAL_FAILED = 12
    LINK_LOST = 13
    PEER_GONE = 14
    DEADLINE_EXCEEDED = 15
    CANCELLED = 16
    GONE = 17
    DUPLICATE = 18
    TRANSFER_FAILED = 19
    TRANSFER_IN_DOUBT = 20
    STOPPED = 21
    SYSTEM_CALL_FAILED = 22
    UCX_FAILED = 23
    CUDA_FAILED = 24
    HANDLER_FAILED = 25
    UNSUPPORTED = 26
    DIGEST_MISMATCH = 27
    NOT_SELECTED = 28
    NOT_PROVEN = 29

    @classmethod
    def _missing_(cls, value: object) -> "Code | None":
        if not isinstance(value, int):
            return None
        made = int.__new__(cls, value)  # of a newer library
        made._name_ = f"CODE_{value}"
        made._value_ = value
        return made


class Error(Exception):
    """A call that was refused, or a session that failed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = Code(code)
        self.text = text

    def __str__(self) -> str:
        return f"{self.code.name.lower()}: {self.text}"
