"""What an S3 bucket holds of uploads that a dead process began: found, and aborted, so that nobody pays for them.

The library that stores for us can neither list nor abort multipart uploads that it does not hold itself (obstore 0.12).
botocore could, for 25 MB and a second set of rules on where credentials come from; signing on our own would take 120
lines and work for static keys alone. But the library signs links, with whatever credentials it found and to whatever
endpoint: given an endpoint that ends in the query that we mean and in `#`, it signs just that, and what it would append
is a fragment, which is never sent.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

import httpx
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from service.errors import StorageError
from service.model import PROBES
from service.outbound import Answer, ask, configured_client, reason
from service.storage.folder import JOB, MONTH, PROBE, YEAR

if TYPE_CHECKING:
    from obstore import HTTP_METHOD  # both exist for type checkers only
    from obstore.store import S3Config

_SECONDS = 30.0
_GOOD_FOR = timedelta(minutes=5)
_PAGE = 500  # uploads, of some 700 bytes each
_MOST_BYTES = 4 * 1024 * 1024
_NEVER = {httpx.codes.BAD_REQUEST, httpx.codes.FORBIDDEN, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED}
_OURS = re.compile(rf"[\w@=+.-]+/{YEAR}/{MONTH}/{JOB}/[\w@=+.-]+|{PROBES}/{PROBE}", re.ASCII)

RULE = "give it a lifecycle rule that aborts incomplete multipart uploads after a day"


class UnlistableError(Exception):
    """The bucket does not let us see its incomplete uploads; the text says why."""


@dataclass(frozen=True, slots=True)
class _Upload:
    key: str
    id: str
    begun: datetime


class Uploads:
    """The multipart uploads of a bucket that were begun under `prefix` and neither completed nor aborted."""

    def __init__(self, bucket: str, prefix: str = "", *, page: int = _PAGE) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._page = page

    async def abort(self, before: datetime) -> int:
        """Abort those of our own keys that were begun before that time; return how many.

        The bucket is asked directly: one that the library reaches only through a proxy (`HTTPS_PROXY`) cannot be swept.
        Raises UnlistableError when that, the bucket or the credentials do not allow it, and StorageError.
        """
        try:
            root = await self._root()
            async with configured_client() as client:
                return await self._abort(client, root, before)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            # The library has just listed something there.
            why = f"it answers only through a proxy, perhaps, and none is used for this ({reason(error)})"
            raise UnlistableError(why) from None
        except httpx.HTTPError as error:
            raise StorageError(f"s3://{self._bucket} could not be asked for its uploads: {reason(error)}") from None
        except (ET.ParseError, ValueError) as error:
            raise StorageError(f"s3://{self._bucket} did not answer in S3's form: {error}") from None

    async def _abort(self, client: httpx.AsyncClient, root: str, before: datetime) -> int:
        aborted = 0
        async for upload in self._uploads(client, root):
            if upload.begun < before and _OURS.fullmatch(upload.key.removeprefix(self._prefix)):
                query = urlencode({"uploadId": upload.id}, quote_via=quote)
                # 404: somebody was quicker.
                await self._ask(client, "DELETE", f"{root}/{quote(upload.key)}?{query}", but=httpx.codes.NOT_FOUND)
                aborted += 1
        return aborted

    async def _uploads(self, client: httpx.AsyncClient, root: str) -> AsyncIterator[_Upload]:
        markers: Mapping[str, str] = {}
        while True:
            wanted = {"uploads": "", "prefix": self._prefix, "max-uploads": str(self._page), **markers}
            answer = await self._ask(client, "GET", f"{root}?{urlencode(wanted, quote_via=quote)}")
            # It is the operator's own bucket that answers, and expat bounds what entities expand to since 2.4.1.
            listing = ET.fromstring(answer.body)  # noqa: S314 - as just said
            for each in listing.findall("{*}Upload"):
                said = [each.findtext(f"{{*}}{name}", "") for name in ("Key", "UploadId", "Initiated")]
                yield _Upload(said[0], said[1], _moment(said[2]))
            following = {
                "key-marker": listing.findtext("{*}NextKeyMarker", ""),
                "upload-id-marker": listing.findtext("{*}NextUploadIdMarker", ""),
            }
            if listing.findtext("{*}IsTruncated") != "true" or following == markers:
                return
            markers = following

    async def _ask(
        self, client: httpx.AsyncClient, method: HTTP_METHOD, url: str, but: httpx.codes | None = None
    ) -> Answer:
        signed = await self._signed(method, url)
        answer = await ask(client, client.build_request(method, signed), seconds=_SECONDS, limit=_MOST_BYTES)
        if httpx.codes.is_success(answer.status) or answer.status == but:
            return answer
        code = re.search(rb"<Code>(\w+)</Code>", answer.body)
        said = f"{answer.status} {code[1].decode()}" if code else str(answer.status)
        if answer.status in _NEVER:
            raise UnlistableError(f"it answers {said}")
        raise StorageError(f"s3://{self._bucket} could not be asked for its uploads: it answers {said}")

    async def _root(self) -> str:
        """Return the bucket's own URL, wherever the library finds it, without a slash at its end."""
        return (await self._sign({}, "GET", "x")).partition("?")[0].removesuffix("/x")

    async def _signed(self, method: HTTP_METHOD, url: str) -> str:
        """Return a URL of the bucket, with a query, in the form in which it may be asked; it is a secret."""
        link = await self._sign({"aws_endpoint_url_s3": f"{url}#", "virtual_hosted_style_request": True}, method, "")
        if not link.startswith(f"{url}&"):
            raise UnlistableError("this version of obstore signs links in another way")
        return link.partition("#")[0]

    async def _sign(self, config: S3Config, method: HTTP_METHOD, path: str) -> str:
        try:
            return await obstore.sign_async(S3Store(self._bucket, config=config), method, path, _GOOD_FOR)
        except (BaseError, ValueError) as error:
            raise UnlistableError(f"its credentials cannot sign ({type(error).__name__})") from None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
