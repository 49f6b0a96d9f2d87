"""The company's own object storage: a bucket or a directory, through one library.

What is put is there whole, or not at all. A bucket gets a multipart upload that is aborted when anything goes wrong; a
directory gets a temporary file that is synced to disk and then renamed. What the death of the process leaves behind, or
a bucket that refuses even the abort, is invisible and costs money: `sweep` collects it. Only on Google's storage it
cannot, where a bucket should have a lifecycle rule. (On Azure it vanishes by itself after a week.)
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

import anyio
import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from service.disk import lack_of_room, make_folder
from service.errors import ConfigurationError, StorageError
from service.model import PROBES
from service.storage.faults import advice, detail
from service.storage.folder import PROBE, Folder, discard
from service.storage.uploads import RULE, UnlistableError, Uploads

if TYPE_CHECKING:
    from obstore import GetOptions  # both exist for type checkers only
    from obstore.store import RetryConfig

_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
_READ_BYTES = 256 * 1024
_RETRIES: RetryConfig = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}  # some 6 s when nothing answers
_ABORT_SECONDS = 3  # for a bucket to forget an upload
_DISCARD_SECONDS = 1  # for a disk to forget a file: with what else is cut short when the service stops, below 10
_CHECK_SECONDS = 4  # below the patience of who asks whether the service is ready
_CHECK_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=2)}

_PROBE = re.compile(rf"{PROBES}/{PROBE}")
_SEGMENT = re.compile(r"[A-Za-z0-9_@=+.-]+")
_EXAMPLES = "write a folder such as var/videos, file:///srv/videos, s3://bucket/prefix, gs://bucket or az://container"
_CREDENTIALS = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}


class _AbandonedError(Exception):
    """Makes obstore abort an upload whose source failed or was cancelled."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed. `left` says what it can never see, and what the operator does about that."""

    uploads: int = 0
    files: int = 0
    left: str | None = None


class Storage:
    """Keeps artifacts under keys such as `tenant/2026/11/job_01ab/0.mp4`.

    Every method raises StorageError when the storage refuses, is slow or breaks, and for a key that is not a plain
    relative path.
    """

    def __init__(
        self,
        store: ObjectStore,
        description: str,
        *,
        scheme: str,
        folder: Folder | None = None,
        impatient: Self | None = None,
    ) -> None:
        self._store = store
        self._description = description
        self._scheme = scheme
        self._folder = folder
        self._impatient = impatient or self  # the same storage, soon out of patience
        self._checking: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, url: str, *, used: bool = False) -> Self:
        """Open what `url` names: a folder, `file:///absolute`, `s3://bucket/prefix`, `gs://` or `az://`.

        Credentials and endpoint of a bucket come from the usual environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`,
        `AWS_ALLOW_HTTP=true` for a plain http endpoint, `AWS_TIMEOUT`; `GOOGLE_*`; `AZURE_*`), which the library
        reads. A folder is made if it is not there, unless it was `used`: then it must be there, and hold something.
        Nothing is asked over the network.
        Raises ConfigurationError with an example of right.
        """
        if not url.strip():
            raise ConfigurationError([f"REELKEEPER_STORAGE is empty; {_EXAMPLES}"])
        if "://" not in url:
            return cls._open_folder(url, Path(url), used=used)
        parts = urlsplit(url)
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ConfigurationError([f"REELKEEPER_STORAGE must have no credentials and no query; {_EXAMPLES}"])
        if parts.scheme == "file" and not parts.netloc and parts.path != "/":
            return cls._open_folder(url, Path(unquote(parts.path)), used=used)
        if parts.scheme not in _CREDENTIALS or not parts.netloc:
            raise ConfigurationError([f"REELKEEPER_STORAGE is {url!r}, which is no storage that we know; {_EXAMPLES}"])
        try:
            impatient = cls(from_url(url, retry_config=_CHECK_RETRIES), url, scheme=parts.scheme)
            return cls(from_url(url, retry_config=_RETRIES), url, scheme=parts.scheme, impatient=impatient)
        except (BaseError, ValueError) as error:
            what_to_do = f"check the {_CREDENTIALS[parts.scheme]}* variables"
            raise ConfigurationError(
                [f"REELKEEPER_STORAGE {url!r} cannot be opened: {detail(error)}; {what_to_do}"]
            ) from None

    @classmethod
    def _open_folder(cls, url: str, path: Path, *, used: bool) -> Self:
        try:
            path = path.resolve()
            if used and not path.exists():
                gone = "is not there, although videos were kept in it: mount or move back what held them"
                last = "or make it and put any file into it if they are gone for good"
                raise ConfigurationError([f"REELKEEPER_STORAGE {url!r}: {path} {gone}, {last}"])
            make_folder(path)
            folder = Folder(path, used=used)
            store = LocalStore(path, automatic_cleanup=True)
            return cls(store, f"the folder {path}", scheme="file", folder=folder)
        except (BaseError, OSError, ValueError) as error:
            raise ConfigurationError([f"REELKEEPER_STORAGE {url!r} is no usable folder: {detail(error)}"]) from None

    def describe(self) -> str:
        """Name the storage for people, without credentials."""
        return self._description

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, content_type: str) -> None:
        """Store what `chunks` yields, whole or not at all, replacing what was there; memory stays flat.

        An exception of `chunks` comes out unchanged and, like a cancellation, leaves nothing behind.
        """
        self._check_key(key)
        if self._folder is None:
            sent = await self._upload(key, chunks, content_type)
        else:
            part = f"{key}.{secrets.token_hex(4)}.part"
            try:
                await self._find("write", key)
                sent = await self._upload(part, chunks, None)
                with self._faults("write", key):
                    await self._folder.run(self._folder.publish, part, key)
            finally:
                # Nobody waits long for a disk that hangs; a part that stays is swept.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DISCARD_SECONDS):
                        await self._folder.run(discard, self._folder.path / part)
        kept = await self.size(key)
        if kept != sent:
            raise StorageError(f"{self._description} took {sent:,} bytes of {key} and now says it has {kept}")

    async def _upload(self, key: str, chunks: AsyncIterator[bytes], content_type: str | None) -> int:
        """Upload in parts and return how many bytes were sent.

        The chunks are made in the task of the caller, because timeouts and cancellation belong to it, and are handed
        to obstore through a stream. obstore aborts an upload when its source fails; a cancelled one leaves its parts
        in the bucket (seen with 0.12), so a cancellation too has to reach it as a failing source.
        """
        inlet, outlet = anyio.create_memory_object_stream[bytes](1)
        whole = False
        sent = 0

        async def source() -> AsyncIterator[bytes]:
            async for chunk in outlet:
                yield chunk
            if not whole:
                raise _AbandonedError

        upload = asyncio.ensure_future(
            obstore.put_async(
                self._store,
                key,
                source(),
                attributes={"Content-Type": content_type} if content_type else None,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        )
        upload.add_done_callback(_look_at)
        upload.add_done_callback(lambda _: outlet.close())
        try:
            async for chunk in chunks:
                try:
                    await inlet.send(chunk)
                except anyio.BrokenResourceError:
                    break  # the upload has failed, and says below why
                sent += len(chunk)
            whole = not upload.done()
            inlet.close()
            with self._faults("write", key):
                await asyncio.shield(upload)
        except BaseException:
            whole = False
            inlet.close()
            await asyncio.wait({upload}, timeout=_ABORT_SECONDS if self._folder is None else _DISCARD_SECONDS)
            upload.cancel()
            raise
        return sent

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to, not including, `end`; all that follow when `end` is None."""
        self._check_key(key)
        if end is not None and end <= start:
            return
        options: GetOptions = {}
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        await self._find("read", key)
        with self._faults("read", key):
            result = await obstore.get_async(self._store, key, options=options)
            async for chunk in result.stream(min_chunk_size=_READ_BYTES):
                yield bytes(chunk)

    async def size(self, key: str) -> int | None:
        """Return how many bytes are stored under `key`; None when nothing is."""
        self._check_key(key)
        await self._find("look for", key)
        with self._faults("look for", key):
            try:
                return (await obstore.head_async(self._store, key))["size"]
            except FileNotFoundError:
                return None

    async def sign(self, key: str, seconds: int) -> str | None:
        """Return a URL that gives everybody what is stored under `key` for `seconds`; None when the storage has none.

        A folder has none. The URL is a secret, good for GET alone, and names the endpoint by which we reach the bucket.
        Buckets refuse links for more than 604,800 s (7 days); temporary credentials end theirs sooner.
        """
        self._check_key(key)
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        with self._faults("sign a link to", key):
            return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds))

    async def delete(self, key: str) -> None:
        """Remove what is stored under `key`, if anything is."""
        self._check_key(key)
        await self._find("delete", key)
        with self._faults("delete", key), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    async def check(self) -> None:
        """Write, read, compare and delete a small object: the storage works, or StorageError says what does not.

        It takes 4 s at most: a storage that has not answered by then is ill, and is left to end the try by itself.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._impatient.probe())
            self._checking.add_done_callback(_look_at)
        await asyncio.wait({self._checking}, timeout=_CHECK_SECONDS)
        if not self._checking.done():
            raise StorageError(
                f"{self._description} did not answer within {_CHECK_SECONDS} s; {self._advice(TimeoutError())}"
            )
        self._checking.result()
        if self._folder is not None:
            with self._faults("look at the disk of", str(self._folder.path)):
                lack = await self._folder.run(lack_of_room, self._folder.path)
            if lack is not None:
                raise StorageError(lack)

    async def probe(self) -> None:
        """Do what `check` does, for as long as it takes."""
        name = secrets.token_hex(8)
        key = f"{PROBES}/{name}.txt"
        text = f"A probe of Reelkeeper; it may be deleted. {name}".encode()

        async def source() -> AsyncIterator[bytes]:
            yield text

        try:
            await self.put(key, source(), content_type="text/plain")
            found = b"".join([chunk async for chunk in self.read(key)])
        except StorageError:
            with contextlib.suppress(StorageError):  # what was to be found out is found out
                await self.delete(key)
            raise
        await self.delete(key)
        if found != text:
            raise StorageError(f"{self._description} gave back other bytes than it was given")
        # obstore's threads touch the interpreter for a moment after an answer, and a program that ends within it is
        # aborted (seen with 0.12 in 1 of 20 runs); a command that only checks ends here.
        await asyncio.sleep(0.05)

    async def sweep(self, before: datetime) -> Swept:
        """Remove what processes left that died, or were refused, before that time, and nothing else.

        Of a bucket's objects that is `reelkeeper-check/<16 hex digits>.txt` alone, of its uploads those to such a key
        or to a job's; what it is of a folder, Folder.sweep says.
        """
        if self._folder is not None:
            with self._faults("sweep", "it"):
                return Swept(files=await self._folder.sweep(before.timestamp()))
        files = 0
        with self._faults("sweep", PROBES):
            async for page in obstore.list(self._store, PROBES):
                for each in page:
                    if _PROBE.fullmatch(each["path"]) and each["last_modified"] < before:
                        await obstore.delete_async(self._store, each["path"])
                        files += 1
        if isinstance(self._store, S3Store):
            try:
                uploads = await Uploads(str(self._store.config["bucket"]), str(self._store.prefix or "")).abort(before)
            except UnlistableError as error:
                return Swept(files=files, left=f"incomplete uploads of {self._description} stay: {error}; {RULE}")
            return Swept(uploads, files)
        stay = f"incomplete uploads of {self._description} stay: they cannot be listed; {RULE}"
        return Swept(files=files, left=stay if isinstance(self._store, GCSStore) else None)

    async def _find(self, verb: str, key: str) -> None:
        if self._folder is not None:
            with self._faults(verb, key):
                await self._folder.run(self._folder.find)

    def _check_key(self, key: str) -> None:
        segments = key.split("/")
        if not all(_SEGMENT.fullmatch(segment) and segment.strip(".") for segment in segments):
            raise StorageError(f"{key!r} is not a key; write plain names joined by /, for example acme/job_1/0.mp4")

    @contextlib.contextmanager
    def _faults(self, verb: str, key: str) -> Iterator[None]:
        """Turn what the library raises into StorageError that says what to do."""
        try:
            yield
        except (BaseError, OSError, ValueError, NotImplementedError) as error:
            raise StorageError(
                f"{self._description} could not {verb} {key}: {detail(error)}; {self._advice(error)}"
            ) from None

    def _advice(self, error: Exception) -> str:
        return advice(error, None if self._folder is not None else f"{_CREDENTIALS[self._scheme]}*")


def _look_at(upload: asyncio.Future[Any]) -> None:
    """Retrieve the outcome of an upload that nobody waits for any more, so that asyncio does not report it as lost."""
    if not upload.cancelled():
        upload.exception()
