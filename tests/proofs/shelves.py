"""Where the videos of a place are kept, looked at from outside: a folder, or a prefix of a real bucket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import obstore
from obstore.store import S3Store

from tests.servers import SeaweedFS


class Shelf(Protocol):
    """A kind of storage: the settings with which a service uses it, and what is there."""

    settings: Mapping[str, str]

    def files(self) -> dict[str, bytes]:
        """Read all that is published, by its key."""
        ...

    def begun(self) -> list[str]:
        """Name the uploads that were begun and not finished."""
        ...


class FolderShelf:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.settings: Mapping[str, str] = {"REELKEEPER_STORAGE": str(folder)}
        self._folder = folder

    def files(self) -> dict[str, bytes]:
        """Read all files but those of unfinished uploads."""
        begun = self.begun()
        return {name: (self._folder / name).read_bytes() for name in self._names() if name not in begun}

    def begun(self) -> list[str]:
        """Name the files, not empty, that are parts of an upload."""
        return [name for name in self._names() if ".part" in name and (self._folder / name).stat().st_size]

    def _names(self) -> list[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self._folder)) for path in files)


class BucketShelf:
    """A prefix of a bucket on a real S3 server, which nobody else uses."""

    def __init__(self, server: SeaweedFS, prefix: str) -> None:
        self.settings: Mapping[str, str] = {
            **server.environment,
            "REELKEEPER_STORAGE": f"s3://{server.bucket}/{prefix}",
        }
        self._server = server
        self._prefix = prefix
        self._store = S3Store(
            server.bucket,
            prefix=prefix,
            endpoint=server.endpoint,
            region=server.environment["AWS_REGION"],
            access_key_id=server.environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=server.environment["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )

    def files(self) -> dict[str, bytes]:
        """Fetch every object."""
        keys = [meta["path"] for page in obstore.list(self._store) for meta in page]
        return {key: bytes(obstore.get(self._store, key).bytes()) for key in keys}

    def begun(self) -> list[str]:
        """Name the keys of multipart uploads that were neither completed nor aborted."""
        return [key for key in self._server.unfinished_uploads() if key.startswith(f"{self._prefix}/")]
