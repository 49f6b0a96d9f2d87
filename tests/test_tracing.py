"""Traces: what a collector is told of a job, and what nobody is."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger
from ulid import ULID

from service.assembly import listen
from service.config import texts
from service.ids import Ids
from service.model import ErrorCode, Job, JobError, OnUnknown, Output, State, VideoRequest
from service.observer import Answered, CalledBack, Handled
from service.tracing import Tracing
from tests.clocks import FastClock
from tests.main.shell import ROOT, Shell
from tests.main.test_running import log_line
from tests.receiver import Receiver
from tests.servers import held_ports
from tests.story.world import open_world
from tests.turns import until

AT = 1_790_000_000_000
IDS = Ids(FastClock())
PATIENCE = 30.0  # s: a loaded machine is no collector that hangs
ENDED = {State.FAILED: ErrorCode.PROVIDER_FAILED, State.EXPIRED: ErrorCode.TIMED_OUT}


def a_job(state: State = State.COMPLETED, **changes: Any) -> Job:  # noqa: ANN401 - whatever a job has
    error = JobError(ENDED[state], "no") if state in ENDED else None
    job = Job(
        id=IDS.new("job"), tenant="acme", state=state, attempt=0, due_at=None, lease=None, leased_until=None,
        provider="openrouter", provider_job_id="theirs", provider_status="completed", model="acme/video",
        request=VideoRequest("acme/video", "a red kite"), on_unknown=OnUnknown.WAIT, metadata={}, created_at=AT,
        submitted_at=AT + 10, doubted_at=None, deadline_at=AT + 60_000, mirror_until=None,
        finished_at=AT + 5_000 if state.final else None, doubts=0, outputs=(), cost=None,
        error=error, artifacts=(),
    )  # fmt: skip
    return replace(job, **changes)


def made_by(route: str, *jobs: Job, status: int = 202) -> Answered:
    return Answered("POST", route, status, AT, 0.01, made=tuple(job.id for job in jobs))


def parts_of(job: Job) -> list[Handled | Answered | CalledBack]:
    return [
        made_by("/v1/jobs", job),
        Handled("submit", "accepted", AT + 20, 0.5, "openrouter", job.id),
        Handled("poll", "running", AT + 1000, 0.25, "openrouter", job.id),
        CalledBack("openrouter", "applied", job.id, AT + 2000, 0.002),
        Handled("mirror", "completed", AT + 2100, 2.5, "openrouter", job.id),
        Handled("notify", "delivered", AT + 5100, 0.1, "openrouter", job.id),
    ]


PARTS = ["create", "submit", "poll", "callback", "mirror", "notify"]


def tell(tracing: Tracing, *facts: Job | Handled | Answered | CalledBack) -> None:
    for fact in facts:
        match fact:
            case Job():
                tracing.entered(fact)
            case Handled():
                tracing.handled(fact)
            case Answered():
                tracing.answered(fact)
            case CalledBack():
                tracing.called_back(fact)


class Collected:
    """Spans that were sent, what was logged, and who sends."""

    def __init__(self) -> None:
        self.logged = CapturingLogger()
        self._memory = InMemorySpanExporter()
        self.tracing = Tracing(self._memory, log_to(self.logged), flush=PATIENCE)

    def spans(self) -> Sequence[ReadableSpan]:
        return self._memory.get_finished_spans()

    async def told(self, *facts: Job | Handled | Answered | CalledBack) -> Sequence[ReadableSpan]:
        """Return the spans of some facts, in order of their beginning, the longest first."""
        tell(self.tracing, *facts)
        await self.tracing.close()
        return sorted(self.spans(), key=lambda span: (span.start_time, -(span.end_time or 0)))


def log_to(logged: CapturingLogger) -> FilteringBoundLogger:
    wrapper = structlog.make_filtering_bound_logger(20)
    log: FilteringBoundLogger = structlog.wrap_logger(logged, processors=[], wrapper_class=wrapper)
    return log


def events(logged: CapturingLogger) -> list[str]:
    return [call.kwargs["event"] for call in logged.calls]


@pytest.fixture
async def collected() -> AsyncIterator[Collected]:
    made = Collected()
    yield made
    await made.tracing.close()


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


# One trace for a job


async def test_all_parts_of_a_job_are_one_trace_below_the_whole_job(collected: Collected) -> None:
    job = a_job()
    whole, *parts = await collected.told(*parts_of(job), job)
    assert [whole.name, *[part.name for part in parts]] == ["job", *PARTS]
    assert whole.parent is None
    assert whole.context is not None
    for part in parts:
        assert trace_of(part) == trace_of(whole)
        assert part.parent is not None
        assert part.parent.span_id == whole.context.span_id
    assert (whole.start_time, whole.end_time) == (AT * 10**6, (AT + 5000) * 10**6)
    assert (parts[1].start_time, parts[1].end_time) == ((AT + 20) * 10**6, (AT + 520) * 10**6)


async def test_the_id_of_a_trace_is_that_of_its_job(collected: Collected) -> None:
    job = a_job()
    [span] = await collected.told(job)
    assert f"{trace_of(span):032x}" == ULID.from_str(job.id.removeprefix("job_").upper()).hex


async def test_whoever_tells_of_it_a_job_is_one_trace(collected: Collected) -> None:
    job, other = a_job(), Collected()
    first, *others = parts_of(job)
    ours = [*await collected.told(first), *await other.told(*others, job)]
    assert len({trace_of(span) for span in ours}) == 1
    ids = [span.context.span_id for span in ours if span.context]
    assert len(set(ids)) == len(ids) == len(PARTS) + 1
    roots = {span.parent.span_id for span in ours if span.parent}
    assert len(roots) == 1
    assert roots < set(ids)


async def test_two_jobs_are_two_traces(collected: Collected) -> None:
    spans = await collected.told(a_job(), a_job())
    assert len({trace_of(span) for span in spans}) == 2
    assert len({span.context.span_id for span in spans if span.context}) == 2


async def test_the_whole_job_is_told_when_it_ends_and_not_before(collected: Collected) -> None:
    assert not await collected.told(*[a_job(state) for state in State if not state.final])


# What is told


async def test_a_job_tells_its_provider_model_state_and_cost(collected: Collected) -> None:
    job = a_job(cost=0.25)
    [span] = await collected.told(job)
    assert dict(span.attributes or {}) == {
        "reelkeeper.job": job.id,
        "reelkeeper.provider": "openrouter",
        "reelkeeper.model": "acme/video",
        "reelkeeper.state": "completed",
        "reelkeeper.cost": 0.25,
    }
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("state", ENDED)
async def test_a_job_that_brought_no_video_is_an_error_by_its_code(state: State, collected: Collected) -> None:
    [span] = await collected.told(a_job(state))
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == ENDED[state]


async def test_a_job_that_was_cancelled_is_no_error(collected: Collected) -> None:
    [span] = await collected.told(a_job(State.CANCELLED))
    assert span.status.status_code is StatusCode.UNSET


async def test_parts_tell_what_became_of_them(collected: Collected) -> None:
    job = a_job()
    create, submit, _, callback, *_ = await collected.told(*parts_of(job))
    assert create.kind is SpanKind.SERVER
    assert dict(create.attributes or {}) == {
        "reelkeeper.job": job.id,
        "http.request.method": "POST",
        "http.route": "/v1/jobs",
        "http.response.status_code": 202,
    }
    assert submit.kind is SpanKind.CLIENT
    told = {"reelkeeper.job": job.id, "reelkeeper.provider": "openrouter"}
    assert dict(submit.attributes or {}) == told | {"reelkeeper.outcome": "accepted"}
    assert callback.kind is SpanKind.SERVER
    assert dict(callback.attributes or {}) == told | {"reelkeeper.outcome": "applied"}


async def test_one_request_may_make_many_jobs_each_of_which_tells_of_it(collected: Collected) -> None:
    jobs = [a_job(), a_job()]
    spans = await collected.told(made_by("/v1/jobs/batch", *jobs))
    assert [(span.name, (span.attributes or {})["reelkeeper.job"]) for span in spans] == [
        ("create", job.id) for job in jobs
    ]
    assert len({trace_of(span) for span in spans}) == 2


async def test_a_part_that_failed_is_an_error_by_its_kind(collected: Collected) -> None:
    job = a_job()
    failed: list[Handled | Answered | CalledBack] = [
        Handled("poll", "later", AT, 1, "openrouter", job.id, kind="ProviderUnavailableError"),
        CalledBack("openrouter", "bad_signature", job.id, AT + 1, 0.1, rejected=True),
        replace(made_by("/v1/jobs", job, status=503), begun_at=AT + 2),
    ]
    spans = await collected.told(*failed)
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 3
    assert [(span.attributes or {})["error.type"] for span in spans] == [
        "ProviderUnavailableError",
        "bad_signature",
        "503",
    ]


@pytest.mark.parametrize(
    "fact",
    [
        Answered("GET", "/v1/jobs/{job_id}", 200, AT, 0.1, IDS.new("job")),
        Answered("POST", "/v1/jobs/{job_id}/cancel", 200, AT, 0.1, IDS.new("job")),
        Answered("POST", "/v1/jobs/{job_id}/retry", 409, AT, 0.1, IDS.new("job")),
        Answered("POST", "/callbacks/{provider}/{job_id}/{token}", 204, AT, 0.1, IDS.new("job")),
        Answered("POST", "/v1/jobs", 400, AT, 0.1),
        Handled("sweep", "swept", AT, 0.1),
        *[
            Handled("poll", "running", AT, 0.1, "openrouter", name)
            for name in ("", "job_", "job_" + "0" * 26, "é" * 26)
        ],
    ],
    ids=repr,
)
async def test_what_is_no_part_of_a_job_is_in_no_trace(fact: Answered | Handled, collected: Collected) -> None:
    assert not await collected.told(fact)


async def test_nothing_that_a_caller_or_a_provider_keeps_to_itself_is_told(collected: Collected) -> None:
    job = a_job(
        State.FAILED,
        tenant="canary-tenant",
        request=VideoRequest("acme/video", "canary prompt", first_frame="https://canary.example/?key=canary"),
        metadata={"canary": "canary"},
        outputs=(Output(0, "https://canary.example/signed?canary"),),
        error=JobError(ErrorCode.PROVIDER_FAILED, "canary message", provider_message="canary words"),
        notify_url="https://canary.example/told",
        notify_secret="canary-secret",
        provider_job_id="canary-theirs",
        lease="canary-lease",
    )
    spans = await collected.told(*parts_of(job), job)
    assert len(spans) == len(PARTS) + 1
    assert "canary" not in "".join(span.to_json() for span in spans)


# What the standard variables say


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
async def test_a_job_is_sampled_whole_or_not_at_all_in_every_process(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    one, other, jobs = Collected(), Collected(), [a_job() for _ in range(60)]
    spans = list(await one.told(*[part for job in jobs for part in parts_of(job)]))
    spans += await other.told(*jobs)
    found = [trace_of(span) for span in spans]
    assert 0 < len(set(found)) < len(jobs)
    assert {found.count(trace) for trace in found} == {len(PARTS) + 1}


async def test_nothing_is_sampled_when_nothing_is_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    job = a_job()
    assert not await Collected().told(*parts_of(job), job)


async def test_the_service_has_the_name_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    [span] = await Collected().told(a_job())
    assert span.resource.attributes["service.name"] == "reelkeeper"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "videos-in-berlin")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=night")
    [span] = await Collected().told(a_job())
    assert span.resource.attributes["service.name"] == "videos-in-berlin"
    assert span.resource.attributes["deployment.environment.name"] == "night"


async def test_a_variable_that_is_not_understood_is_a_line_of_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    made = Collected()
    await made.tracing.close()
    [line] = [call.kwargs for call in made.logged.calls]
    assert line["event"] == "traces.warned"
    assert "sometimes" in line["says"]


# The collector


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans as OTLP over HTTP has them."""

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Collecting)
        self.server.paths.append(self.path)
        self.server.spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Collecting(http.server.ThreadingHTTPServer):
    """A collector that keeps what it is sent."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Collector)
        self.spans: list[Any] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def collecting(port: int = 0) -> Iterator[Collecting]:
    with Collecting(port) as server:
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        running.start()
        try:
            yield server
        finally:
            server.shutdown()
            running.join()


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """Take connections, and never answer."""
    with listen("127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_whole_story_is_one_trace_at_the_collector_although_the_service_crashes(tmp_path: Path) -> None:
    receiver = Receiver()
    with collecting() as collector:
        async with receiver.running():
            settings = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "REELKEEPER_ALLOWED_PRIVATE_HOSTS": receiver.host,
            }
            async with open_world(tmp_path, settings=settings) as world:
                job_id = await world.ask("llmgateway", "ok", notify_url=receiver.url)
                await world.run("submit")
                await world.crash()
                await world.start()
                await world.settle(job_id)
                await world.run("notify")
                assert receiver.about(job_id)
        spans = {span.name: span for span in collector.spans}
    assert set(collector.paths) == {"/v1/traces"}
    assert {"job", "create", "submit", "callback", "mirror", "notify"} <= set(spans)
    assert len({span.trace_id for span in spans.values()}) == 1
    assert {span.parent_span_id for span in collector.spans} == {b"", spans["job"].span_id}
    assert "kite" not in str(collector.spans)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have spans sent at once, each alone, and given up soon."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


class Failing(InMemorySpanExporter):
    """Loses the first spans."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.left -= 1
        return SpanExportResult.FAILURE if self.left >= 0 else super().export(spans)


@pytest.mark.usefixtures("quickly")
async def test_what_is_lost_again_and_again_is_said_once() -> None:
    logged = CapturingLogger()
    tracing = Tracing(Failing(5), log_to(logged), flush=PATIENCE)
    tell(tracing, *parts_of(a_job()))
    await tracing.close()
    assert events(logged) == ["traces.lost", "traces.arrive"]


@pytest.mark.usefixtures("quickly")
async def test_a_collector_that_is_away_costs_one_warning_until_it_is_back() -> None:
    logged, heard = CapturingLogger(), Heard()
    with heard, held_ports(1) as [port]:
        tracing = Tracing.to(f"http://127.0.0.1:{port}/v1/traces", log_to(logged), flush=PATIENCE)
        tell(tracing, *parts_of(a_job())[:2])
        await until(lambda: events(logged))
        with collecting(port) as collector:
            tell(tracing, a_job())
            await until(lambda: "traces.arrive" in events(logged))
            await tracing.close()
        assert collector.spans
    assert events(logged) == ["traces.lost", "traces.arrive"]
    said = logged.calls[0].kwargs
    assert "port 4318" in said["advice"]
    assert said["says"]
    assert heard.records == []


class Heard(logging.Handler):
    """All that libraries log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)


async def test_what_the_packages_say_after_the_end_is_said_to_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    logged, heard = CapturingLogger(), Heard()
    with heard:
        await Tracing(InMemorySpanExporter(), log_to(logged), flush=PATIENCE).close()
        logging.getLogger("opentelemetry.exporter.late").error("too late")
    assert (heard.records, events(logged), capfd.readouterr().err) == ([], [], "")


async def test_a_collector_that_hangs_keeps_nobody_waiting() -> None:
    with hanging() as url:
        tracing = Tracing.to(f"{url}/v1/traces", log_to(CapturingLogger()), flush=0.1)
        begun = time.monotonic()
        tell(tracing, *[part for _ in range(100) for part in parts_of(a_job())])
        await tracing.close()
        assert time.monotonic() - begun < 9  # s, of the 10 for which the exporter waits for each answer


@pytest.mark.parametrize("away", ["closed", "hanging"])
def test_the_service_ends_in_time_and_quietly_although_its_collector_is_away(away: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    with contextlib.ExitStack() as stack:
        if away == "hanging":
            url = stack.enter_context(hanging())
        else:
            [port] = stack.enter_context(held_ports(1))
            url = f"http://127.0.0.1:{port}"
        settings = {"PORT": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
        with shell.started("serve", before=_TELLS_OF_ONE_JOB, **settings) as process:
            log_line(process, "serve.started")
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines[-1]["event"] == "serve.stopped"
    assert len([line for line in lines if line["level"] != "info" and "trace" in line["event"]]) <= 1
    assert "Traceback" not in said


_TELLS_OF_ONE_JOB = """
from service import tracing
from service.observer import Handled
of_url = tracing.Tracing.to
def to(url, log, *, flush):
    made = of_url(url, log, flush=flush)
    made.handled(Handled("poll", "running", 1, 1.0, "openrouter", "job_01kam3v4qx8j5c2n7t9w0e1r6y"))
    return made
tracing.Tracing.to = to
"""


# When nobody wants traces, or nothing sends them


async def test_a_service_without_the_extra_warns_that_it_does_not_trace_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "_SENDS_TRACES", "a-package-that-is-not-installed")
    monkeypatch.setitem(sys.modules, "service.tracing", None)
    async with open_world(tmp_path, settings={"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}) as world:
        job_id = await world.ask("llmgateway", "ok")
        await world.settle(job_id)
        [line] = [call for call in world.logged.calls if call.kwargs["event"] == "serve.untraced"]
    assert line.method_name == "warning"
    assert "pip install 'reelkeeper[otel]'" in line.kwargs["advice"]


def test_nothing_of_it_is_loaded_where_no_traces_are_wanted() -> None:
    program = "import sys, service.__main__, service.assembly; print(*sys.modules)"
    loaded = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "service.assembly" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in {"opentelemetry", "requests", "google"}}


async def test_a_service_without_a_collector_makes_none(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    async with open_world(tmp_path) as world:
        job_id = await world.ask("llmgateway", "ok")
        await world.settle(job_id)
        assert not {thread.name for thread in threading.enumerate() if "Otel" in thread.name} - before
