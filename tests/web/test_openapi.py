"""The description of the API: valid, whole, and true of the running service."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import schemathesis
from openapi_spec_validator import validate
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from starlette.routing import Route

from service.model import Artifact, Billable, DeliveryAttempt, ErrorCode, Footage, Job, JobError, State, VideoRequest
from service.store import Created, NewJob
from service.web.openapi import describe
from tests.web.house import PUBLIC_URL, VIDEO, House, serving
from tests.web.test_models import filled

Document = dict[str, Any]

HEALTHY = {"2xx", "3xx", "4xx"}
REFUSED = [400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 416]
# A word of ours where the id of a job can stand is also the id of no job: 404 to the methods that a job takes.
WORDS = ["/v1/jobs/batch", "/v1/videos/models", "/v1/videos/edits", "/v1/videos/extensions", "/v1/videos/characters"]
# What only a provider's signature opens, and what is not offered.
NEVER = {"POST /callbacks/{provider}/{job_id}/{token}", "POST /v1/videos/{job_id}/remix"} | {
    f"POST {path}" for path in WORDS[-3:]
}
CONFIG: Mapping[str, Any] = {
    "seed": 1,
    "continue-on-failure": True,
    "max-redirects": 0,
    "request-timeout": 60,
    "suppress-health-check": ["all"],  # a slow machine is no finding
    "warnings": False,
    "generation": {"deterministic": True, "max-examples": 8, "database": "none"},
    "phases": {"stateful": {"generation": {"max-examples": 3}}},
    "checks": {
        "negative_data_rejection": {"expected-statuses": REFUSED},
        # No schema can say what is a public address, the cursor of a page, or wrong to one provider alone.
        "positive_data_acceptance": {"enabled": False},
    },
    "operations": [
        {
            "include-path": WORDS,
            "checks": {"unsupported_method": {"enabled": False}, "allow_header_conformance": {"enabled": False}},
        },
        # Each job of a batch is refused by itself, inside of a 200.
        {
            "include-path": "/v1/jobs/batch",
            "checks": {
                "negative_data_rejection": {"enabled": False},
                "unsupported_method": {"enabled": False},
                "allow_header_conformance": {"enabled": False},
            },
        },
        # There are no pictures without FFmpeg's libraries, and no spritesheets at all.
        {
            "include-path": "/v1/videos/{job_id}/content",
            "checks": {"not_a_server_error": {"expected-statuses": [*HEALTHY, 501]}},
        },
    ],
}


def documented() -> Document:
    found: Document = json.loads(json.dumps(describe(PUBLIC_URL, ["openrouter", "llmgateway"])))
    return found


# The document itself


def test_it_is_valid() -> None:
    validate(documented())


def test_every_call_is_described_and_no_other(house: House) -> None:
    # Pages and their forms are for browsers.
    routes = [each for each in house.app().routes if isinstance(each, Route) and not each.path.startswith("/status/")]
    there = {(method, route.path_format) for route in routes for method in route.methods or ()}
    paths = documented()["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert described <= there
    # Where there is a GET, there is a HEAD, which is described where it says what the GET would send.
    assert {each for each in there - described if each[0] != "HEAD"} == set()
    assert {path for method, path in described if method == "HEAD"} == {p for p in paths if p.endswith("/content")}


def test_every_call_has_a_name_of_its_own_and_a_face() -> None:
    document = documented()
    calls = [call for item in document["paths"].values() for call in item.values()]
    assert max(Counter(call["operationId"] for call in calls).values()) == 1
    assert {tag for call in calls for tag in call["tags"]} == {tag["name"] for tag in document["tags"]}
    assert all(call["responses"] and call["summary"] for call in calls)


def test_every_schema_is_used_and_says_which_fields_are_always_there() -> None:
    document = documented()
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if f"/schemas/{name}" not in text] == []
    assert [name for name, each in schemas.items() if "properties" in each and "required" not in each] == []


async def test_anybody_can_read_it_once(house: House) -> None:
    async with house.client(key="") as client:
        first = await client.get("/openapi.json")
        assert first.status_code == 200
        assert first.headers["content-type"] == "application/json"
        assert first.json() == documented()
        assert first.json()["servers"] == [{"url": PUBLIC_URL}]
        again = await client.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = await client.get("/openapi.json", headers={"if-none-match": '"another"'})
        assert other.content == first.content


def test_it_names_the_providers_that_are_there() -> None:
    document = json.dumps(describe(PUBLIC_URL, ["llmgateway"]))
    assert '"enum": ["llmgateway"]' in document
    assert '"openrouter"]' not in document


# Against the running service


async def ended(house: House, name: str, word: str) -> Job:
    job = await house.running(provider_job_id=f"gen-{name}")
    assert (await house.call_back(job, word)).status_code == 204
    return job


async def told(house: House) -> Job:
    """Return a job whose caller was told of its end, the second time with success."""
    request = VideoRequest("m", prompt="a cat")
    new = NewJob("acme", "openrouter", request, notify_url="https://backend.example.com/done?token=canary")
    created = await house.store.create_job(new)
    assert isinstance(created, Created)
    job = await house.store.cancel(created.job.id)
    assert job is not None
    [delivery] = await house.deliveries.claim(1, each=1)
    failed = DeliveryAttempt(house.clock.now(), 41, 502, None, "Bad Gateway")
    assert await house.deliveries.try_again(delivery, failed, house.clock.now())
    [delivery] = await house.deliveries.claim(1, each=1)
    assert await house.deliveries.delivered(delivery, DeliveryAttempt(house.clock.now(), 9, 204, None, ""))
    return job


async def lost(house: House, name: str = "lost") -> Job:
    """Return a job whose video was given up."""
    await ended(house, name, "completed")
    [job] = await house.claims.claim_mirrors("openrouter", 1)
    error = JobError(ErrorCode.OUTPUT_UNAVAILABLE, "the video is not there", billable=Billable.YES)
    failed = await house.claims.give_up_mirror(job, error)
    assert failed is not None
    return failed


async def looked_into(house: House) -> Job:
    """Return a completed job of which it is known what it shows."""
    await ended(house, "seen", "completed")
    [job] = await house.claims.claim_mirrors("openrouter", 1)
    footage = Footage(5_005, 1280, 720, "h264", None)
    key = f"acme/2026/11/{job.id}/0.mp4"
    await house.storage.put(key, once(VIDEO), content_type="video/mp4")
    await house.claims.keep_artifact(job, Artifact(0, key, len(VIDEO), "cd" * 32, "video/mp4", footage))
    done = await house.claims.mirrored(job)
    assert done is not None
    return done


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def of_all_kinds(house: House) -> list[Job]:
    """Return jobs in every state; the first has two artifacts, the last one's caller was told."""
    jobs = [
        await house.completed("gen-done", (VIDEO[:1000], b"another")),
        await looked_into(house),
        await lost(house),
        *[await ended(house, word, word) for word in ("failed", "cancelled", "expired")],
        await ended(house, "mirroring", "completed"),
        await house.running(provider_job_id="gen-running"),
        await house.submitting(),
        await house.queued(),
        await told(house),
    ]
    found = [await house.store.job(job.id) for job in jobs]
    return [job for job in found if job is not None]


def _worth_naming(path: str, jobs: list[Job]) -> list[Job]:
    """Return the jobs that a path is tried with: so few where most can do nothing that one that can is surely drawn."""
    done, _seen, lost, *_, submitting, queued, told = jobs
    if path.startswith("/callbacks"):
        return [lost]
    able = {"content": done, "attach": submitting, "cancel": queued, "redeliver": told, "remirror": lost}
    last = path.rpartition("/")[2]
    return [able[last], jobs[3]] if last in able else jobs


def pointed(document: Document, jobs: list[Job], spare: list[Job], address: str, key_id: str) -> Document:
    """Return the document where ids are those of real jobs, and headers and tokens have values that do something."""
    found = deepcopy(document)
    token, tag = address.rpartition("/")[2], f'"{jobs[0].artifacts[0].sha256}"'
    examples = {"Range": ["bytes=0-9", "bytes=-5", "bytes=99999999-"], "If-None-Match": ['"another"', tag]}
    for path, item in found["paths"].items():
        for method, call in item.items():
            ids = spare if method == "delete" else _worth_naming(path, jobs)
            values = {"job_id": [job.id for job in ids], "token": [token], "id": ["shared", "google/veo-3.1"]}
            values["key_id"] = [key_id]
            for parameter in call["parameters"]:
                name, schema = parameter["name"], parameter["schema"]
                if parameter["in"] == "path" and name in values:
                    schema.update(enum=values[name])
                elif name in examples:
                    schema.update(examples=examples[name])
    return found


def differences(document: Document, url: str, key: str) -> tuple[list[str], Counter[str]]:
    """Return how the service at `url` differs from the document, and how often it answered with what to which call."""
    told = {"base-url": url, "headers": {"Authorization": f"Bearer {key}"}}
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict({**CONFIG, **told}))
    found: list[str] = []
    answers: Counter[str] = Counter()
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            found.append(f"{event.label}: {event.value!r}")
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.ScenarioFinished):
            for case_id, exchange in event.recorder.interactions.items():
                assert exchange.response is not None
                answers[f"{event.recorder.label} {exchange.response.status_code}"] += 1
                for check in event.recorder.checks.get(case_id, ()):
                    if check.failure_info is not None:
                        said = exchange.response.content[:500]
                        how = check.failure_info.code_sample
                        found.append(f"{event.recorder.label}: {check.failure_info.failure}\n{how}\n{said!r}")
    return found, answers


@asynccontextmanager
async def furnished(house: House) -> AsyncIterator[tuple[Document, str, str]]:
    """Yield a document that leads somewhere, the address of the service that it describes, and an operator's key."""
    jobs = await of_all_kinds(house)
    [unanswered] = [job for job in jobs if job.state is State.SUBMITTING]
    await house.claims.in_doubt(unanswered, "no answer")
    spare = [await ended(house, f"spare-{number}", "failed") for number in range(3)]
    jobs[-2] = await house.queued()  # whatever was queued before, the spare ones took along
    await filled(house)
    _, key = await house.keys.create("operator", "acme", operator=True)
    unused, _ = await house.keys.create("unused", "acme")
    async with serving(house.app()) as port:
        yield pointed(documented(), jobs, spare, house.address(jobs[2]), unused.id), f"http://127.0.0.1:{port}", key


async def test_the_service_does_what_is_described_whatever_it_is_sent(house: House) -> None:
    async with furnished(house) as (document, url, key):
        found, answers = await asyncio.to_thread(differences, document, url, key)
    assert not found, f"{len(found)} differences\n\n" + "\n\n".join(sorted(found)[:20])
    succeeded = {answer.rpartition(" ")[0] for answer in answers if answer.rpartition(" ")[2].startswith("2")}
    calls = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert {call for call in calls - succeeded if call not in NEVER} == set()


async def test_a_description_that_is_not_true_is_found_out(house: House) -> None:
    async with furnished(house) as (document, url, key):
        call = document["paths"]["/v1/jobs/{job_id}"]
        document["paths"] = {"/v1/jobs/{job_id}": call}
        job = document["components"]["schemas"]["Job"]
        del job["properties"]["retry_of"]
        job["required"].remove("retry_of")
        del call["get"]["responses"]["404"]
        found, _ = await asyncio.to_thread(differences, document, url, key)
    text = "\n".join(found)
    assert "'retry_of' was unexpected" in text
    assert "Received: 404" in text
