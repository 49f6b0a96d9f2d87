"""What went wrong with a storage, in words, and what the operator does about it."""

from __future__ import annotations

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

_FULL = re.compile("Quota|Full|Insufficient")  # in the codes of Ceph, MinIO and others
_BUSY = {"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded", "Throttling", "XMinioServerBusy"}
_BROKEN = {  # what the library shows of it, the most telling first
    "kind: Timeout": "it did not answer in time",
    "ConnectError(": "nobody can be reached there",
    "HTTP error": "the connection broke",
}


def detail(error: Exception) -> str:
    """Return the heart of an error text, without what requests and answers carried."""
    everything = str(error)
    text = everything.partition("\n\nDebug source")[0]
    code = _code(text)
    if code is not None:
        return code
    if "builder error" in text:
        return "its endpoint is plain http, which needs AWS_ALLOW_HTTP=true"
    for sign, words in _BROKEN.items():
        if "HTTP error" in text and sign in everything:
            return words
    line = text.partition("\n")[0]
    return re.sub(r"\?\S+", "?...", line)[:300].strip() or type(error).__name__


def advice(error: Exception, variables: str | None) -> str:
    """Say what to do; `variables` names those that say how a bucket is reached, None means a folder."""
    if variables is None:
        return "check that the folder is there, may be written, and has free space"
    code = _code(str(error)) or ""
    if _FULL.search(code):
        return "make room there, or let it hold more"
    if code in _BUSY:
        return "it is overloaded or limits how often it may be asked: wait, or raise that limit"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return f"check the {variables} credentials and that they may read, write and delete there"
    if isinstance(error, FileNotFoundError):
        return "check that the bucket and the object exist"
    return f"check the {variables} endpoint, region and credentials, and that it is up"


def _code(text: str) -> str | None:
    found = re.search(r"<Code>(\w+)</Code>", text)
    return found[1] if found else None
