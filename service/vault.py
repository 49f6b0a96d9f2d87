"""Keys derived from the operator's secret keys, each bound to one purpose: nothing derived is ever stored.

`REELKEEPER_SECRET_KEY` is a list: the first key makes what is new, all of them recognise what is already out there,
so that jobs in flight survive a rotation. What must be stored and is not ours, such as a secret that a caller chose, is
sealed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SHORTEST_KEY = 32  # bytes
_TOKEN_BYTES = 24  # 32 characters in a URL
_NONCE_BYTES = 12
_KEY_ID_BYTES = 8
_SEAL = "seal1"  # the form of what is sealed: seal1.<key id>.<nonce and AES-256-GCM ciphertext, base64url>
_WHSEC = "whsec_"  # so Standard Webhooks writes a secret, before the base64 of the key


class SealError(ValueError):
    """What was sealed cannot be opened; the text says what to do."""


class KeyMissingError(SealError):
    """The key with which it was sealed is not in the list: it can be opened once that is there again."""


class Vault:
    """Derives tokens and secrets from `keys`, each of at least 32 bytes, and seals; the first is the current one.

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
        self._delivery_keys = [_derive(key, b"reelkeeper/delivery-secret/1") for key in keys]
        self._form_keys = [_derive(key, b"reelkeeper/form-token/1") for key in keys]
        self._seals = {
            _derive(key, b"reelkeeper/key-id/1")[:_KEY_ID_BYTES].hex(): AESGCM(_derive(key, b"reelkeeper/seal/1"))
            for key in keys
        }

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Names of the keys, the current one first. They are derived, and tell nothing about the keys."""
        return tuple(self._seals)

    def callback_token(self, job_id: str) -> str:
        """Return what makes a job's callback URL unguessable: 32 characters, safe in a URL."""
        return _token(self._token_keys[0], job_id)

    def token_matches(self, job_id: str, token: str) -> bool:
        """Tell, in constant time, whether any key made this token for this job; strange text is simply wrong."""
        return _is_any(self._token_keys, job_id, token)

    def callback_secret(self, job_id: str) -> str:
        """Return the secret with which a provider shall sign the callbacks of this one job: 43 characters."""
        return _secret(self._secret_keys[0], job_id)

    def callback_secrets(self, job_id: str) -> tuple[str, ...]:
        """Return the job's callback secret under every key, the current one first."""
        return tuple(_secret(key, job_id) for key in self._secret_keys)

    def delivery_secrets(self, tenant: str) -> tuple[str, ...]:
        """Return the secrets that sign what a tenant is told, one for every key, the current one first.

        Each is `whsec_` and 32 bytes in base64, as Standard Webhooks has them.
        """
        return tuple(f"{_WHSEC}{base64.b64encode(_mac(key, tenant)).decode()}" for key in self._delivery_keys)

    def form_token(self, session: str) -> str:
        """Return what the forms of a session carry, so that no other site can send them: 32 characters."""
        return _token(self._form_keys[0], session)

    def form_token_matches(self, session: str, token: str) -> bool:
        """Tell, in constant time, whether any key made this token for this session; strange text is simply wrong."""
        return _is_any(self._form_keys, session, token)

    def seal(self, text: str, purpose: str) -> str:
        """Encrypt `text` with the current key; only `unseal` with the same `purpose`, such as its owner, opens it."""
        key_id, current = next(iter(self._seals.items()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + current.encrypt(nonce, text.encode(), purpose.encode())
        return f"{_SEAL}.{key_id}.{base64.urlsafe_b64encode(sealed).decode()}"

    def unseal(self, sealed: str, purpose: str) -> str:
        """Return what was sealed for `purpose`, with any of the keys. Raises SealError, a ValueError."""
        form, _, rest = sealed.partition(".")
        key_id, _, data = rest.partition(".")
        if form != _SEAL:
            raise SealError(
                f"it was never sealed here, or does not begin with {_SEAL}. any more; "
                "whoever it is from must give it anew"
            )
        if key_id not in self._seals:
            raise KeyMissingError(
                f"it was sealed with the key {key_id!r:.20}, which is not in REELKEEPER_SECRET_KEY any more; "
                "write that key at the end of the list again, for example new-key,old-key, restart and try again"
            )
        try:
            raw = base64.b64decode(data, altchars=b"-_", validate=True)
            opened = self._seals[key_id].decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise SealError(
                "it was changed since it was sealed, or it was sealed for another purpose; "
                "whoever it is from must give it anew"
            ) from error
        return opened.decode()


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)


def _token(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(_mac(key, text)[:_TOKEN_BYTES]).decode()


def _is_any(keys: Sequence[bytes], text: str, token: str) -> bool:
    given = token.encode(errors="replace")
    # Every key is compared: the answer must not tell by its speed which one it was.
    return sum(hmac.compare_digest(_token(key, text).encode(), given) for key in keys) > 0


def _secret(key: bytes, job_id: str) -> str:
    return base64.urlsafe_b64encode(_mac(key, job_id)).decode().rstrip("=")


def _mac(key: bytes, job_id: str) -> bytes:
    return hmac.digest(key, job_id.encode(errors="surrogatepass"), hashlib.sha256)
