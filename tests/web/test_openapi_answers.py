"""Answers of every kind, one by one, as the description has them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import jsonschema_rs
import pytest

from service.model import ErrorCode, Job, JobError
from service.storage import Storage
from tests.web.debts import given_up
from tests.web.house import VIDEO, House, openrouter_body
from tests.web.test_models import filled
from tests.web.test_openapi import Document, documented, of_all_kinds

NOBODYS = "job_" + "0" * 26
CREATE = {"model": "google/veo-3.1", "prompt": "a red kite", "duration": 4}
WRONG = {"duration": "long"}


class Reader:
    """Asks, and holds every answer against the document, which it has seen the more of the more it asks."""

    def __init__(self, client: httpx.AsyncClient, seen: set[tuple[str, str]] | None = None) -> None:
        self._client = client
        self._document = documented()
        self.seen: set[tuple[str, str]] = set() if seen is None else seen

    async def ask(self, call: str, status: int, **more: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has it
        """Send `call`, "GET /v1/jobs", and return the answer, whose status must be `status`."""
        method, _, path = call.partition(" ")
        answer = await self._client.request(method, path, **more)
        assert answer.status_code == status, answer.text
        described = self._call(method, path)
        self.seen.add((described["operationId"], str(status)))
        self._check(answer, self._found(described["responses"][str(status)]))
        return answer

    def described(self) -> set[tuple[str, str]]:
        """Return every answer that is described."""
        calls = [call for item in self._document["paths"].values() for call in item.values()]
        return {(call["operationId"], status) for call in calls for status in call["responses"]}

    def calls(self, status: int, *but: str) -> Iterable[str]:
        """Return every call that may be answered with `status`, of a job that is nobody's, but those to some paths."""
        for path, item in self._document["paths"].items():
            for method, call in item.items():
                if str(status) in call["responses"] and not path.startswith(but or "-"):
                    yield f"{method.upper()} {path.format(job_id=NOBODYS, key_id='key_' + '0' * 26, id='nobodys')}"

    def _call(self, method: str, path: str) -> Document:
        path = path.partition("?")[0]
        for template, item in sorted(self._document["paths"].items()):
            pattern = re.sub(r"\{id\}$", ".+", template)
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) and method.lower() in item:
                found: Document = item[method.lower()]
                return found
        raise AssertionError(f"{method} {path} is not described")

    def _found(self, described: Document) -> Document:
        name = described.get("$ref", "").rpartition("/")[2]
        found: Document = self._document["components"]["responses"][name] if name else described
        return found

    def _check(self, answer: httpx.Response, described: Document) -> None:
        for name, reference in described["headers"].items():
            header = self._document["components"]["headers"][reference["$ref"].rpartition("/")[2]]
            assert name in answer.headers or not header["required"], f"{name} is missing"
            if name in answer.headers:
                self._valid(answer.headers[name], header["schema"])
        content = described.get("content", {})
        if not content:
            assert answer.content == b""
            return
        media = answer.headers["content-type"].partition(";")[0]
        found = content.get(media) or content[media.partition("/")[0] + "/*"]
        if media == "application/json":
            self._valid(answer.json(), found["schema"])

    def _valid(self, value: object, schema: Document) -> None:
        whole = {"components": self._document["components"], **schema}
        wrong = [
            f"{error.instance_path}: {error.message}"
            for error in jsonschema_rs.Draft202012Validator(whole, validate_formats=True).iter_errors(value)
        ]
        assert not wrong, wrong


@pytest.fixture
async def reader(house: House) -> AsyncIterator[Reader]:
    _, key = await house.keys.create("operator", "acme", operator=True)
    async with house.client(key=key) as client:
        yield Reader(client)


@pytest.fixture
async def jobs(house: House) -> dict[str, Job]:
    """Jobs of all kinds, by what is special about each."""
    await filled(house)
    made = await of_all_kinds(house)
    return {
        **{job.state: job for job in reversed(made)},
        "told": made[-1],
        "lost": made[2],
    }


class Signing(Storage):
    """A folder that has links, as a bucket does."""

    async def sign(self, key: str, seconds: int) -> str | None:
        return f"https://bucket.example.net/{key}?expires={seconds}"


async def create(reader: Reader, call: str, status: int, body: object, **headers: str) -> dict[str, Any]:
    answer = await reader.ask(call, status, json=body, headers=headers)
    found: dict[str, Any] = answer.json()
    return found


async def test_every_answer_is_as_it_is_described(house: House, reader: Reader, jobs: dict[str, Job]) -> None:
    await receivers(house, reader)
    await house.claims.in_doubt(jobs["submitting"], "no answer")
    await the_native_api(reader, jobs)
    await the_compatible_faces(reader, jobs)
    for face in ("/v1/jobs", "/api/v1/videos", "/v1/videos"):
        await contents(reader, f"{face}/{jobs['completed'].id}/content")
        await reader.ask(f"GET {face}/{jobs['queued'].id}/content", 409)
        await reader.ask(f"HEAD {face}/{jobs['queued'].id}/content", 409)
        await reader.ask(f"GET {face}/{jobs['expired'].id}/content", 410)
        await reader.ask(f"HEAD {face}/{jobs['expired'].id}/content", 410)
    await callbacks(house, reader, jobs["running"])
    await operators(house, reader)
    await links(house, reader, jobs["completed"])
    await refusals(house, reader)
    await what_is_down(house, reader, jobs["running"])
    # A body that never ends, a provider that takes a wish, 200 streams, a crowd of rejections and a mistake of ours
    # have tests of their own.
    rare = {("cancelJob", "202"), ("readJobEvents", "429"), ("receiveCallback", "429")}
    missing = {(call, status) for call, status in reader.described() - reader.seen if status not in ("408", "500")}
    assert missing == rare


async def the_native_api(reader: Reader, jobs: dict[str, Job]) -> None:
    key = {"Idempotency-Key": "a"}
    await create(reader, "POST /v1/jobs", 202, CREATE | {"metadata": {"order": 17}, "seed": -1}, **key)
    replay = await reader.ask("POST /v1/jobs", 202, json=CREATE | {"metadata": {"order": 17}, "seed": -1}, headers=key)
    assert replay.headers["idempotency-replayed"] == "true"
    await create(reader, "POST /v1/jobs", 409, CREATE, **key)
    await create(reader, "POST /v1/jobs", 400, CREATE | WRONG)
    batch = await create(reader, "POST /v1/jobs/batch", 200, {"jobs": [CREATE, WRONG, 1]}, **key)
    assert [each["status"] for each in batch["data"]] == [202, 400, 400]
    again = await create(reader, "POST /v1/jobs/batch", 200, {"jobs": [CREATE]}, **key)
    assert again["data"][0]["replayed"] is True
    await create(reader, "POST /v1/jobs/batch", 400, {"jobs": []})
    page = await reader.ask("GET /v1/jobs?limit=5", 200)
    await reader.ask(f"GET /v1/jobs?cursor={page.json()['next_cursor']}", 200)
    await reader.ask("GET /v1/jobs?limit=0", 400)
    for job in jobs.values():
        await reader.ask(f"GET /v1/jobs/{job.id}", 200)
        await reader.ask(f"GET /v1/jobs/{job.id}/events", 200)
        await reader.ask(f"GET /v1/jobs/{job.id}/deliveries", 200)
        await reader.ask(f"GET /v1/jobs/{job.id}/receipts", 200)
    ended, stream = jobs["expired"].id, {"accept": "text/event-stream"}
    await reader.ask(f"GET /v1/jobs/{ended}/events", 200, headers=stream)
    await reader.ask(f"GET /v1/jobs/{ended}/events", 204, headers=stream | {"last-event-id": "99"})
    await reader.ask(f"GET /v1/jobs/{ended}/events?after=x", 400)
    await reader.ask(f"POST /v1/jobs/{jobs['cancelled'].id}/cancel", 200)
    await reader.ask(f"POST /v1/jobs/{ended}/cancel", 409)
    await reader.ask(f"POST /v1/jobs/{ended}/retry", 202)
    await reader.ask(f"POST /v1/jobs/{ended}/retry", 400, headers={"Idempotency-Key": "ü".encode()})
    await reader.ask(f"POST /v1/jobs/{jobs['queued'].id}/retry", 409)
    await reader.ask(f"POST /v1/jobs/{jobs['told'].id}/redeliver", 202)
    await reader.ask(f"POST /v1/jobs/{ended}/redeliver", 409)
    await reader.ask(f"POST /v1/jobs/{jobs['lost'].id}/remirror", 202)
    await reader.ask(f"POST /v1/jobs/{ended}/remirror", 409)
    attach = f"POST /v1/jobs/{jobs['submitting'].id}/attach"
    await create(reader, attach, 400, {"provider_job_id": "has a space"})
    await create(reader, attach, 409, {"provider_job_id": "gen-running"})
    await create(reader, attach, 200, {"provider_job_id": "gen-found"})


async def receivers(house: House, reader: Reader) -> None:
    await given_up(house)
    page = await reader.ask("GET /v1/receivers?limit=1", 200)
    await reader.ask("GET /v1/receivers?limit=0", 400)
    call, [failing] = "POST /v1/receivers/redeliver", page.json()["data"]
    await create(reader, call, 200, {"receiver": failing["receiver"]})
    await create(reader, call, 400, {"receiver": 1})
    await create(reader, call, 404, {"receiver": "https://nobodys.example.com"})


async def the_compatible_faces(reader: Reader, jobs: dict[str, Job]) -> None:
    key = {"Idempotency-Key": "a"}
    for call, body in (("POST /api/v1/videos", CREATE), ("POST /v1/videos", {"prompt": "a red kite", "seconds": "4"})):
        await create(reader, call, 202, body, **key)
        await create(reader, call, 409, body | {"prompt": "a blue kite"}, **key)
        await create(reader, call, 400, body | {"size": 1})
    callback = {"callback_url": "https://example.com/hooks?token=canary", "callback_secret": "s"}
    made = await create(reader, "POST /v1/videos", 202, {"prompt": "a kite", "seconds": 4, "n": 1} | callback)
    picture = {"input_reference": ("cat.png", b"\x89PNG\r\n\x1a\n")}
    await reader.ask("POST /v1/videos", 202, data={"prompt": "a kite", "seconds": "4"}, files=picture)
    for job in jobs.values():
        await reader.ask(f"GET /api/v1/videos/{job.id}", 200)
        await reader.ask(f"GET /v1/videos/{job.id}", 200)
    await reader.ask(f"GET /v1/videos?limit=3&after={made['id']}", 200)
    await reader.ask("GET /v1/videos?order=asc", 200)
    await reader.ask("GET /v1/videos?order=up", 400)
    await reader.ask(f"DELETE /v1/videos/{jobs['cancelled'].id}", 200)
    await reader.ask(f"DELETE /v1/videos/{jobs['running'].id}", 409)
    for path in ("/api/v1/videos/models", "/v1/videos/models", "/v1/models", "/v1/models/google/veo-3.1"):
        found = await reader.ask(f"GET {path}", 200)
        await reader.ask(f"GET {path}", 304, headers={"if-none-match": found.headers["etag"]})
    await reader.ask("GET /v1/models/nobodys/model", 404)
    for path in ("edits", "extensions", "characters", f"{made['id']}/remix"):
        await reader.ask(f"POST /v1/videos/{path}", 404)


async def contents(reader: Reader, path: str) -> None:
    whole = await reader.ask(f"GET {path}", 200)
    assert whole.content == VIDEO[:1000]
    tag = {"if-none-match": whole.headers["etag"]}
    for method in ("GET", "HEAD"):
        await reader.ask(f"{method} {path}", 304, headers=tag)
        await reader.ask(f"{method} {path}?index=x", 400)
        await reader.ask(f"{method} {path}?index=7", 404)
        await reader.ask(f"{method} {path}", 412, headers={"if-match": '"another"'})
        if path.startswith("/v1/videos"):
            await reader.ask(f"{method} {path}?variant=spritesheet", 501)
    await reader.ask(f"HEAD {path}", 200)
    await reader.ask(f"GET {path}", 206, headers={"range": "bytes=5-9"})
    await reader.ask(f"GET {path}", 416, headers={"range": "bytes=99999999-"})


async def callbacks(house: House, reader: Reader, job: Job) -> None:
    call, body = f"POST {house.address(job)}", openrouter_body(job.provider_job_id or "", "in_progress")
    await reader.ask(call, 204, content=body, headers=house.openrouter_headers(body))
    await reader.ask(call, 400, content=b"{}", headers=house.openrouter_headers(b"{}"))
    await reader.ask(call, 401, content=body, headers=house.openrouter_headers(b"another"))
    await reader.ask(f"{call}x", 404, content=body, headers=house.openrouter_headers(body))
    page = await reader.ask("GET /v1/callbacks/rejected?limit=1", 200)
    await reader.ask(f"GET /v1/callbacks/rejected?job={job.id}&cursor={page.json()['next_cursor']}", 200)
    await reader.ask("GET /v1/callbacks/rejected?job=x", 400)


async def operators(house: House, reader: Reader) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/status", "/status.json"):
        await reader.ask(f"GET {path}", 200)
    own = await reader.ask("GET /openapi.json", 200)
    await reader.ask("GET /openapi.json", 304, headers={"if-none-match": own.headers["etag"]})
    made = await reader.ask("POST /v1/keys", 201, json={"name": "my-backend", "per_minute": 5})
    await reader.ask("POST /v1/keys", 400, json={})
    await reader.ask("GET /v1/keys", 200)
    await reader.ask(f"POST /v1/keys/{made.json()['id']}/revoke", 200)
    async with house.client() as client:
        caller = Reader(client, reader.seen)
        await caller.ask("GET /status", 200)
        for call in ("GET /v1/jobs?tenant=*", "GET /v1/keys", "POST /v1/keys", "GET /metrics"):
            await caller.ask(call, 403)
        await caller.ask(f"POST /v1/keys/{made.json()['id']}/revoke", 403)
        await caller.ask(f"POST /v1/jobs/{NOBODYS}/attach", 403, json={"provider_job_id": "gen-found"})


async def links(house: House, reader: Reader, job: Job) -> None:
    storage = Signing.open(str(house.folder / "videos"))
    async with house.client(house.app(storage=storage, link_seconds=60)) as client:
        signing = Reader(client, reader.seen)
        for face in ("/v1/jobs", "/api/v1/videos", "/v1/videos"):
            await signing.ask(f"GET {face}/{job.id}/content", 302)
        shown = await signing.ask(f"GET /api/v1/videos/{job.id}", 200)
        assert len(shown.json()["urls"]) == 2


async def refusals(house: House, reader: Reader) -> None:
    async with house.client(key="") as client:
        keyless = Reader(client, reader.seen)
        for call in reader.calls(401, "/callbacks"):
            await keyless.ask(call, 401)
    for call in reader.calls(404, "/callbacks", "/v1/models", "/v1/receivers"):
        await reader.ask(call, 404)
    sent = ("/v1/jobs", "/v1/jobs/batch", "/api/v1/videos", "/v1/videos", "/v1/keys", "/v1/receivers/redeliver")
    running = await house.running(provider_job_id="gen-large")
    for path in (*sent, f"/v1/jobs/{running.id}/attach", house.address(running)):
        await reader.ask(f"POST {path}", 415, content=b"{}")
        large = {"content-type": "application/json", "content-length": "999999999"}
        await reader.ask(f"POST {path}", 413, content=b"{}", headers=large)
    _, key = await house.keys.create("limited", "acme", creates_per_minute=1)
    failed = f"/v1/jobs/{running.id}/retry"
    assert (await house.call_back(running, "failed")).status_code == 204
    creates = {"/v1/jobs": CREATE, "/api/v1/videos": CREATE, "/v1/videos": {"prompt": "x", "seconds": 4}, failed: {}}
    async with house.client(key=key) as client:
        limited = Reader(client, reader.seen)
        await limited.ask("POST /v1/jobs", 202, json=CREATE)
        for path, body in creates.items():
            await limited.ask(f"POST {path}", 429, json=body)
        await limited.ask("POST /v1/jobs/batch", 200, json={"jobs": [CREATE]})
    for path, body in creates.items():
        key_of_it = {"Idempotency-Key": "deleted"}
        gone = (await reader.ask(f"POST {path}", 202, json=body, headers=key_of_it)).json()["id"]
        await reader.ask(f"POST /v1/jobs/{gone}/cancel", 200)
        await reader.ask(f"DELETE /v1/videos/{gone}", 200)
        await reader.ask(f"POST {path}", 410, json=body, headers=key_of_it)
    for provider in ("openrouter", "llmgateway"):
        await house.claims.refused(await house.submitting(provider), JobError(ErrorCode.PROVIDER_CREDITS, "none"))
    for path, body in creates.items():
        await reader.ask(f"POST {path}", 402, json=body)


async def what_is_down(house: House, reader: Reader, job: Job) -> None:
    """Ask everything of a service that has lost its database."""
    body = openrouter_body(job.provider_job_id or "")
    await house.db.close()
    for call in reader.calls(503, "/callbacks", "/metrics"):
        await reader.ask(call, 503)
    async with house.client() as client:  # of an app that has believed nobody yet
        await Reader(client, reader.seen).ask("GET /metrics", 503)
    await reader.ask(f"POST {house.address(job)}", 503, content=body, headers=house.openrouter_headers(body))
