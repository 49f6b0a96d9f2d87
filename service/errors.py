"""Every exception of the project, drawn as a tree.

    ReelkeeperError
    ├── ConfigurationError      the operator must change a setting; carries every mistake at once
    ├── StoreUnavailableError   the database could not make it durable; nothing was written
    ├── LookTooLongError        a list or a search took too long and was ended; nothing is broken
    ├── CallbackError           what came to the callback endpoint was not believed
    │   ├── BadSignatureError   missing, malformed, stale or wrong signature
    │   └── BadCallbackError    a genuine signature over a body that is not a callback
    ├── OutputError             an output could not be made an artifact this time
    │   ├── OutputNotReadyError the provider has it, but not yet
    │   ├── OutputGoneError     the provider says that it will never serve it again
    │   ├── OutputTooLargeError larger than the operator allows
    │   └── BadOutputError      the bytes are not the whole video that they claim to be
    ├── StorageError            our own object storage refused, was slow or broke
    └── InterruptedWorkError    the service is stopping; the work goes on after the restart

What is expected to happen is a return value, not an exception: a provider's refusal, a lost race, a used
idempotency key. An exception says that somebody must act, and its text says who and how.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto


class ReelkeeperError(Exception):
    """The root: catch it to catch all that this project raises on purpose."""


class ConfigurationError(ReelkeeperError):
    """One or more settings are wrong; `mistakes` holds one sentence for each, with an example of right."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class StoreUnavailableError(ReelkeeperError):
    """The database could not commit (disk full, locked, read-only): nothing of the work was kept."""


class LookTooLongError(ReelkeeperError):
    """A list or a search took longer than anybody may keep others waiting; it was ended, and nothing is broken."""


class Distrust(Enum):
    """Why a signature was not believed."""

    MISSING = auto()  # the signature, or what belongs to it, did not come
    MALFORMED = auto()
    CLOCK = auto()  # its timestamp is too far from our clock
    UNMATCHED = auto()  # another secret, or another body


class CallbackError(ReelkeeperError):
    """A callback was rejected; the text says why, without secrets."""


class BadSignatureError(CallbackError):
    """The signature is missing, malformed, too old, too new or wrong; `reason` says which."""

    def __init__(self, message: str, reason: Distrust) -> None:
        super().__init__(message)
        self.reason = reason


class BadCallbackError(CallbackError):
    """The signature is genuine, the body is not a callback of this provider."""


class OutputError(ReelkeeperError):
    """An output could not be copied this time; trying again may help.

    `retry_after_ms` is the source's own advice, when it gave one.
    """

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class OutputNotReadyError(OutputError):
    """The source has the output, but does not serve it yet."""


class OutputGoneError(OutputError):
    """The source says that it will never serve the output again."""


class OutputTooLargeError(OutputError):
    """The output is larger than `REELKEEPER_MAX_VIDEO_BYTES`."""


class BadOutputError(OutputError):
    """The bytes are empty, cut short, or not a video."""


class StorageError(ReelkeeperError):
    """Object storage did not take or give the bytes."""


class InterruptedWorkError(ReelkeeperError):
    """The service is stopping before the work was done."""
