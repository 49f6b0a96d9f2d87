"""Where the sandbox is, and links to its outputs that need no key.

A link carries a token in the form that LLM Gateway puts into `content[0].url` (observed): a compact JWT, HS256, header
`{"alg":"HS256"}`, claims `l` (what it is for) and `exp` (unix seconds). The signing key is new in every sandbox.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import urlsplit

from service.clock import Clock

_OTHER_NAMES = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}


class Links:
    """Mints and checks the links of one sandbox. `base_url` may be set when the port is known."""

    def __init__(self, clock: Clock, key: bytes, base_url: str) -> None:
        self._clock = clock
        self._key = key
        self.base_url = base_url.rstrip("/")

    @property
    def elsewhere(self) -> str:
        """The sandbox under another host name, which makes it another origin.

        Any other name than the loopback ones gets the dot at its end that DNS allows and that changes nothing else.
        """
        parts = urlsplit(self.base_url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{_OTHER_NAMES.get(host, host + '.')}{port}"

    def output(self, job_id: str, index: int, expires_at: int) -> str:
        """Return a link to an output on the other origin, until `expires_at` (unix seconds)."""
        return f"{self.elsewhere}/files/{job_id}/{index}?token={self._token(f'{job_id}/{index}', expires_at)}"

    def log(self, log_id: str) -> str:
        """Return LLM Gateway's own link to an output, which is good for seven days."""
        expires_at = self._clock.now() // 1000 + 7 * 86_400
        return f"{self.base_url}/v1/videos/logs/{log_id}/content?token={self._token(log_id, expires_at)}"

    def allows(self, token: str, subject: str) -> bool:
        """Return whether the token is genuine, for this subject and not over."""
        signed, _, mac = token.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(signed).encode()):
            return False
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return bool(claims["l"] == subject and claims["exp"] > self._clock.now() // 1000)

    def _token(self, subject: str, expires_at: int) -> str:
        claims = json.dumps({"l": subject, "exp": expires_at}, separators=(",", ":"))
        signed = f"{_HEADER}.{_encode(claims.encode())}"
        return f"{signed}.{self._mac(signed)}"

    def _mac(self, signed: str) -> str:
        return _encode(hmac.digest(self._key, signed.encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_HEADER = _encode(b'{"alg":"HS256"}')
