"""The desk at a running service: asked over HTTP, with an API key that goes to that service alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from service.commands import shapes
from service.commands.desk import DeskError, Page, Search, View, no_job, no_key, no_receiver, retried_before
from service.outbound import Answer, ask, reason
from service.web.acting import BY_HAND
from service.web.callers import is_job_id
from service.web.filters import EVERY_TENANT
from service.web.keys import KeyBody

_SECONDS = 60.0
_LARGEST_ANSWER = 67_108_864  # bytes: a hundred jobs with the longest prompts
_LONGEST_EVENT = 1_048_576  # bytes
_MOST_JOBS = 100  # of one page
_QUIET_SECONDS = 60.0  # a stream says something every 15
_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, *[30.0] * 10)  # s, between tries to go on with a stream: six minutes
_RETRY_PAUSES = (1.0, 3.0)  # s, between tries to have a job retried
_FOR_NOW = frozenset({500, 502, 503, 504})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class RemoteDesk:
    """Asks the service at `url`, which has no slash at its end, with an API key.

    An operator's key sees every tenant's jobs, any other its own tenant's. `pause` waits before a stream is tried
    again.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        key: str,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.where = f"at {url}"
        self._client = client
        self._url = url
        self._headers = {"authorization": f"Bearer {key}", "accept": "application/json"}
        self._pause = pause
        self._tenant = EVERY_TENANT  # until the service says that the key is no operator's

    async def jobs(self, search: Search, *, go_on: str | None, limit: int) -> Page:
        """Return a page of jobs, as many as `limit` or fewer; `go_on` continues after the page before."""
        params = {
            "state": search.state,
            "provider": search.provider,
            "model": search.model,
            "error": search.error,
            "q": search.text,
            "created_after": None if search.created_after is None else search.created_after // 1000,
            "cursor": go_on,
            "limit": min(limit, _MOST_JOBS),
        }
        given = {name: str(value) for name, value in params.items() if value is not None}
        tenant = search.tenant or self._tenant
        try:
            wanted = given | ({"tenant": tenant} if tenant else {})
            page = await self.ask("GET", "/v1/jobs", shapes.Listed[shapes.Job], params=wanted)
        except DeskError as error:
            if error.code != "operators_only" or search.tenant is not None:
                raise
            self._tenant = ""
            return await self.jobs(search, go_on=go_on, limit=limit)
        return Page(page["data"], page.get("next_cursor"))

    async def job(self, job_id: str) -> View:
        """Return a job."""
        return await self.ask("GET", self._path(job_id), shapes.Job)

    async def retries(self, job_id: str) -> list[str] | None:  # noqa: ARG002 - which the API does not tell
        """Return None: the job's page at the service names them."""
        return None

    async def events(self, job_id: str) -> list[View]:
        """Return what happened to a job, oldest first."""
        return await self._list(self._path(job_id, "/events"), shapes.Event)

    async def follow(self, job_id: str) -> AsyncIterator[View]:
        """Yield what happened to a job, and what happens, until the job has ended.

        A stream that breaks off is gone on with where it ended.
        """
        after, tries = 0, 0
        while True:
            trouble = "the stream ended"
            try:
                async for event in self._stream(self._path(job_id, "/events"), after):
                    if event["id"] > after:  # what is told again brings nothing on
                        after, tries = event["id"], 0
                        yield event
                if await self._all_told(job_id, after):
                    return
            except httpx.HTTPError as error:
                trouble = reason(error)
            except DeskError as error:
                if error.code not in _PASSING:
                    raise
                trouble = str(error)
            if tries >= len(_PAUSES):
                raise DeskError(f"the events of {job_id} {self.where} could not be followed: {trouble}", "unreachable")
            await self._pause(_PAUSES[tries])
            tries += 1

    async def _all_told(self, job_id: str, after: int) -> bool:
        """Tell whether a job has ended, and its end was told with event `after`."""
        if not (await self.job(job_id)).get("finished_at"):
            return False
        return not await self._list(self._path(job_id, "/events"), shapes.Event, params={"after": str(after)})

    async def _stream(self, path: str, after: int) -> AsyncIterator[View]:
        """Yield events as they are told; ends when the service ends the stream."""
        headers = {**self._headers, "accept": "text/event-stream", "last-event-id": str(after)}
        timeout = httpx.Timeout(_QUIET_SECONDS, connect=10, pool=10)
        request = self._client.build_request("GET", self._url + path, headers=headers, timeout=timeout)
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            if response.status_code == httpx.codes.NO_CONTENT:
                return
            if response.status_code != httpx.codes.OK:
                body = await _begin_of(response)
                raise self._refusal(Answer(response.status_code, response.headers, body), path)
            buffer = bytearray()
            async for chunk in response.aiter_raw():
                buffer += chunk
                *messages, rest = bytes(buffer).split(b"\n\n")
                buffer = bytearray(rest)
                if len(buffer) > _LONGEST_EVENT:
                    raise self._strange(path, "an event that does not end")
                for message in messages:
                    for line in message.split(b"\n"):
                        if line.startswith(b"data:"):
                            yield self._view(line[5:], path, shapes.Event)
        finally:
            await response.aclose()

    async def receipts(self, job_id: str) -> list[View]:
        """Return the genuine callbacks about a job, oldest first."""
        return await self._list(self._path(job_id, "/receipts"), shapes.Receipt)

    async def deliveries(self, job_id: str) -> list[View]:
        """Return what a job's caller was told, with every attempt, oldest first."""
        return await self._list(self._path(job_id, "/deliveries"), shapes.Delivery)

    async def cancel(self, job_id: str) -> View:
        """Cancel a job; return it with its `cancellation`, which says what that meant."""
        return await self._do(job_id, "cancel", shapes.Cancelled)

    async def retry(self, job_id: str) -> tuple[View, bool]:
        """Return the job that repeats one that brought no video, and whether somebody had it made before.

        Asked again when the answer was lost, now or by another command, it is the same one.
        """
        path, pauses, doubtful = self._path(job_id, "/retry"), list(_RETRY_PAUSES), False
        while True:
            try:
                job, headers = await self._told("POST", path, shapes.Job, headers={"idempotency-key": BY_HAND})
            except DeskError as error:
                doubtful |= error.code in _DOUBTFUL
                if error.code in _PASSING and pauses:
                    await self._pause(pauses.pop(0))
                elif error.code in _PASSING and doubtful:
                    raise DeskError(f"{job_id}: {error}. {_MAY_BE_MADE}", error.code) from None
                else:
                    raise retried_before(job_id) if error.code == "job_deleted" else _about(job_id, error) from None
            else:
                return job, "idempotency-replayed" in headers and not doubtful

    async def attach(self, job_id: str, provider_job_id: str) -> View:
        """Bind a provider's id to a job; return the job."""
        return await self._do(job_id, "attach", shapes.Job, body={"provider_job_id": provider_job_id})

    async def remirror(self, job_id: str) -> View:
        """Have a job's output copied again; return the job."""
        return await self._do(job_id, "remirror", shapes.Job)

    async def redeliver(self, job_id: str) -> View:
        """Have the newest message about a job sent again; return the delivery."""
        return await self._do(job_id, "redeliver", shapes.Delivery)

    async def rejected(self, job_id: str | None, limit: int) -> list[View]:
        """Return rejected callbacks, newest first."""
        found: list[View] = []
        params = {} if job_id is None else {"job": job_id}
        while len(found) < limit:
            here = {"limit": str(min(_MOST_JOBS, limit - len(found)))}
            page = await self.ask(
                "GET", "/v1/callbacks/rejected", shapes.Listed[shapes.Rejection], params=params | here
            )
            found += page["data"]
            if not page.get("next_cursor"):
                break
            params["cursor"] = page["next_cursor"]
        return found

    async def receivers(self, limit: int) -> tuple[list[View], bool]:
        """Return receivers that do not take what they are told, 100 at most, and whether there are more."""
        page = await self.ask("GET", "/v1/receivers", shapes.Listed[shapes.Receiver], params={"limit": str(limit)})
        return page["data"], page.get("has_more", False)

    async def redeliver_all(self, receiver: str, tenant: str | None) -> View:
        """Send all again that a receiver did not take; return how much that is."""
        body = {"receiver": receiver} | ({} if tenant is None else {"tenant": tenant})
        try:
            return await self.ask("POST", "/v1/receivers/redeliver", shapes.Redelivery, body=body)
        except DeskError as error:
            raise no_receiver(receiver, self.where) if error.code == "receiver_not_found" else error from None

    async def keys(self) -> list[View]:
        """Return every API key, oldest first, without the keys themselves."""
        return await self._list("/v1/keys", shapes.Key)

    async def create_key(self, wanted: KeyBody) -> View:
        """Make an API key; return it with the `key` itself, this once."""
        return await self.ask("POST", "/v1/keys", shapes.NewKey, body=wanted.model_dump(exclude_none=True))

    async def revoke_key(self, key_id: str) -> View:
        """Make an API key useless; return it."""
        try:
            return await self.ask("POST", f"/v1/keys/{quote(key_id, safe='')}/revoke", shapes.RevokedKey)
        except DeskError as error:
            raise no_key(key_id, self.where) if error.code == "key_not_found" else error from None

    async def ask(
        self,
        method: str,
        path: str,
        shape: type[BaseModel],
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> View:
        """Return the JSON of an answer, which has all that `shape` has."""
        return (await self._told(method, path, shape, params=params, body=body))[0]

    async def _list(self, path: str, shape: type[BaseModel], *, params: Mapping[str, str] | None = None) -> list[View]:
        found: list[View] = (await self.ask("GET", path, shapes.Listed[shape], params=params))["data"]  # type: ignore[valid-type]
        return found

    async def _told(
        self,
        method: str,
        path: str,
        shape: type[BaseModel],
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[View, httpx.Headers]:
        answer = await self.exchange(method, path, params=params, body=body, headers=headers)
        if not httpx.codes.is_success(answer.status):
            raise self._refusal(answer, path)
        return self._view(answer.body, path, shape), answer.headers

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return an answer, whatever it is.

        Raises DeskError: `unreachable` when nothing was sent, `lost` when no answer came.
        """
        request = self._client.build_request(
            method, self._url + path, params=params, json=body, headers={**self._headers, **(headers or {})}
        )
        try:
            return await ask(self._client, request, seconds=_SECONDS, limit=_LARGEST_ANSWER)
        except httpx.HTTPError as error:
            says = f"no answer came from {self._url}: {reason(error)}; is it the service's address, and does it run?"
            raise DeskError(says, "unreachable" if isinstance(error, _NOT_SENT) else "lost") from error

    async def _do(
        self, job_id: str, what: str, shape: type[BaseModel], *, body: Mapping[str, Any] | None = None
    ) -> View:
        try:
            return await self.ask("POST", self._path(job_id, f"/{what}"), shape, body=body)
        except DeskError as error:
            raise _about(job_id, error) from None

    def _path(self, job_id: str, end: str = "") -> str:
        if not is_job_id(job_id):
            raise no_job(job_id, self.where)
        return f"/v1/jobs/{job_id}{end}"

    def _refusal(self, answer: Answer, path: str) -> DeskError:
        """Return why the service, or whoever stands before it, did not do what it was asked for."""
        try:
            refusal = shapes.Refusal.model_validate(shapes.parse(answer.body)).error
        except ValueError:
            return self._strange(path, f"{answer.status} in a form that is not Reelkeeper's")
        if refusal.code == "job_not_found" and path.startswith("/v1/jobs/"):
            return no_job(path.split("/")[3], f"{self.where} for this API key")
        message = " ".join(refusal.message.split())[:2_000]
        if answer.status == httpx.codes.TOO_MANY_REQUESTS:
            return DeskError(message, "busy")
        return DeskError(message, "for_now" if answer.status in _FOR_NOW else refusal.code)

    def _view(self, body: bytes, path: str, shape: type[BaseModel]) -> View:
        try:
            view: View = shapes.parse(body)
        except ValueError:
            raise self._strange(path, "something that is no JSON") from None
        wrong = shapes.misfit(view, shape)
        if wrong is not None:
            raise self._strange(path, f"something that is none of Reelkeeper's, or of another version ({wrong})")
        return view

    def _strange(self, path: str, what: str) -> DeskError:
        return DeskError(f"{self._url}{path} answered {what}; is {self._url} the service's address?", "strange")


_PASSING = frozenset({"busy", "for_now", "lost", "strange", "unreachable"})
_DOUBTFUL = frozenset({"for_now", "lost", "strange"})  # what was asked for may be done
_OF_NO_JOB = frozenset({"job_not_found", "lost", "strange", "unauthorized", "unreachable"})
_MAY_BE_MADE = "A new job may have been made all the same: run the same command again, which makes no second one"


def _about(job_id: str, error: DeskError) -> DeskError:
    return error if error.code in _OF_NO_JOB else DeskError(f"{job_id}: {error}", error.code)


async def _begin_of(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _LONGEST_EVENT:
            break
    return bytes(body)
