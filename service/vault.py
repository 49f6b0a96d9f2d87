"""Keys derived from the operator's secret keys, each bound to one purpose: nothing derived is ever stored.

`REELKEEPER_SECRET_KEY` is a list: the first key makes what is new, all of them recognise what is already out there,
so that jobs in flight survive a rotation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SHORTEST_KEY = 32  # bytes
_TOKEN_BYTES = 24  # 32 characters in a URL


class Vault:
    """Derives per-job tokens and secrets from `keys`, each of at least 32 bytes; the first is the current one.

    Raises ValueError when there is no key or one is too short.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("a vault needs at least one key")
        if any(len(key) < _SHORTEST_KEY for key in keys):
            raise ValueError(f"every key of a vault has at least {_SHORTEST_KEY} bytes")
        # The purposes are part of what is out there: changing one invalidates the callbacks of jobs in flight.
        self._token_keys = [_derive(key, b"reelkeeper/callback-token/1") for key in keys]
        self._secret_keys = [_derive(key, b"reelkeeper/callback-secret/1") for key in keys]

    def callback_token(self, job_id: str) -> str:
        """Return what makes a job's callback URL unguessable: 32 characters, safe in a URL."""
        return _token(self._token_keys[0], job_id)

    def token_matches(self, job_id: str, token: str) -> bool:
        """Tell, in constant time, whether any key made this token for this job; strange text is simply wrong."""
        given = token.encode(errors="replace")
        # Every key is compared: the answer must not tell by its speed which one it was.
        return sum(hmac.compare_digest(_token(key, job_id).encode(), given) for key in self._token_keys) > 0

    def callback_secret(self, job_id: str) -> str:
        """Return the secret with which a provider shall sign the callbacks of this one job: 43 characters."""
        return _secret(self._secret_keys[0], job_id)

    def callback_secrets(self, job_id: str) -> tuple[str, ...]:
        """Return the job's callback secret under every key, the current one first."""
        return tuple(_secret(key, job_id) for key in self._secret_keys)


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)


def _token(key: bytes, job_id: str) -> str:
    return base64.urlsafe_b64encode(_mac(key, job_id)[:_TOKEN_BYTES]).decode()


def _secret(key: bytes, job_id: str) -> str:
    return base64.urlsafe_b64encode(_mac(key, job_id)).decode().rstrip("=")


def _mac(key: bytes, job_id: str) -> bytes:
    return hmac.digest(key, job_id.encode(errors="surrogatepass"), hashlib.sha256)
