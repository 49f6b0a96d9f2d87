"""Traces for OpenTelemetry: one for each job, whatever process or restart its parts happen in.

The trace's id is the job's own, a ULID of 128 bits, and the id of its outermost span is the last 64 of them: so nothing
has to be remembered or sent along. That span, `job`, is told when the job ends, and what happens until then as spans
below it, each once it is over. A job that is recovered ends twice, and its trace has two such spans of one id.

Imported only where traces are wanted, because the packages are an extra: `pip install 'reelkeeper[otel]'`. What the
service does not say here (sampling, headers, how much waits for how long) they read from the standard OTEL_* variables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context
from structlog.typing import FilteringBoundLogger
from ulid import ULID

from service.model import Job, State
from service.observer import Answered, CalledBack, Handled
from service.threads import in_thread

_LOWEST_ERROR = 500
_TO_OTHERS = frozenset({"submit", "poll", "mirror", "notify"})
_JOB, _PROVIDER, _OUTCOME = "reelkeeper.job", "reelkeeper.provider", "reelkeeper.outcome"
_ADVICE = (
    "spans are lost until the collector takes them; it must speak OTLP over HTTP, usually on port 4318, at the address "
    "in OTEL_EXPORTER_OTLP_ENDPOINT"
)


class Tracing:
    """An observer that tells `exporter` of each job's parts, from a thread of its own.

    A collector that is away or hangs costs spans and one warning. What waits at the end has `flush` seconds.
    """

    def __init__(self, exporter: SpanExporter, log: FilteringBoundLogger, *, flush: float) -> None:
        self._flush = flush
        self._words = _Words(log)
        self._exporter = _Watched(exporter, log, self._words)
        self._ids = _Ids()
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("reelkeeper")

    @classmethod
    def to(cls, url: str, log: FilteringBoundLogger, *, flush: float) -> Self:
        """Return one that sends to a collector by OTLP over HTTP; `url` is the whole one, with its path."""
        return cls(OTLPSpanExporter(endpoint=url), log, flush=flush)

    async def close(self) -> None:
        """Send what waits, if that can be done in time."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(self._flush):
                await in_thread(self._provider.shutdown, name="traces")
        self._words.close()

    def entered(self, job: Job) -> None:
        """Tell of the whole job, if it has ended."""
        trace = _trace(job.id)
        if trace is None or job.finished_at is None or not job.state.final:
            return
        attributes: dict[str, str | float] = {
            _JOB: job.id,
            _PROVIDER: job.provider,
            "reelkeeper.model": job.model,
            "reelkeeper.state": job.state.value,
        }
        if job.cost is not None:
            attributes["reelkeeper.cost"] = job.cost
        if job.error is not None:
            attributes[ERROR_TYPE] = job.error.code.value
        self._ids.root = trace
        try:
            span = self._tracer.start_span("job", Context(), attributes=attributes, start_time=_ns(job.created_at))
        finally:
            self._ids.root = None
        if job.state in {State.FAILED, State.EXPIRED}:
            span.set_status(StatusCode.ERROR)
        span.end(_ns(job.finished_at))

    def handled(self, work: Handled) -> None:
        """Tell of what a worker did with a job."""
        kind = SpanKind.CLIENT if work.step in _TO_OTHERS else SpanKind.INTERNAL
        attributes = _known({_PROVIDER: work.provider, _OUTCOME: work.outcome})
        self._tell(work.job, work, work.step, kind, attributes, work.kind)

    def answered(self, answer: Answered) -> None:
        """Tell of the request that made a job, or many; others are none of its parts."""
        attributes: dict[str, str | int] = {
            HTTP_REQUEST_METHOD: answer.method,
            HTTP_ROUTE: answer.route,
            HTTP_RESPONSE_STATUS_CODE: answer.status,
        }
        failed = answer.status >= _LOWEST_ERROR
        for job in answer.made:
            self._tell(job, answer, "create", SpanKind.SERVER, attributes, str(answer.status) if failed else None)

    def called_back(self, callback: CalledBack) -> None:
        """Tell of a callback, also of one that was rejected."""
        attributes = {_PROVIDER: callback.provider, _OUTCOME: callback.verdict}
        error = callback.verdict if callback.rejected else None
        self._tell(callback.job, callback, "callback", SpanKind.SERVER, attributes, error)

    def _tell(
        self,
        job: str | None,
        what: Handled | Answered | CalledBack,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        error: str | None = None,
    ) -> None:
        trace = job and _trace(job)
        if not job or not trace:
            return
        span = self._tracer.start_span(
            name,
            self._below(trace),
            kind=kind,
            attributes={_JOB: job, **attributes, **_known({ERROR_TYPE: error})},
            start_time=_ns(what.begun_at),
        )
        if error is not None:
            span.set_status(StatusCode.ERROR)
        span.end(_ns(what.begun_at) + int(what.seconds * 1e9))

    def _below(self, trace: int) -> Context:
        # What is decided for the outermost span, from its id alone, is true of the trace, in every process.
        decided = self._provider.sampler.should_sample(Context(), trace, "job").decision
        flags = TraceFlags(TraceFlags.SAMPLED if decided is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        outermost = SpanContext(trace, _root(trace), is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(outermost), Context())


class _Ids(RandomIdGenerator):
    """Random ids, but those of `root`, a trace's, for its outermost span."""

    root: int | None = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.root is None else self.root

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self.root is None else _root(self.root)


class _Words(logging.Handler):
    """What the packages log: of their sending only the last words are kept, and all else is a warning, said once."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._log = log
        self._said: set[str] = set()
        self._logger = logging.getLogger("opentelemetry")
        self._logger.propagate = False
        for handler in (logging.NullHandler(), self):  # the first keeps silent what is said after the end
            self._logger.addHandler(handler)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")):
            self.last = record.getMessage()
        elif record.msg not in self._said:
            self._said.add(record.msg)
            self._log.warning("traces.warned", says=record.getMessage())

    def close(self) -> None:
        self._logger.removeHandler(self)
        super().close()


class _Watched(SpanExporter):
    """An exporter that says once that spans are lost, until some arrive again."""

    def __init__(self, exporter: SpanExporter, log: FilteringBoundLogger, words: _Words) -> None:
        self._exporter = exporter
        self._log = log
        self._words = words
        self._losing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        lost = result is not SpanExportResult.SUCCESS
        if lost and not self._losing:
            self._log.warning("traces.lost", spans=len(spans), says=self._words.last, advice=_ADVICE)
        elif self._losing and not lost:
            self._log.info("traces.arrive", spans=len(spans))
        self._losing = lost
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _resource() -> Resource:
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say is true, also where it is less than this.
    return Resource.create({"service.name": "reelkeeper", **OTELResourceDetector().detect().attributes})


def _trace(job_id: str) -> int | None:
    """Return the id of a job's trace; None for what is no job's id."""
    try:
        return int(ULID.from_str(job_id.removeprefix("job_"))) or None
    except ValueError:
        return None


def _root(trace: int) -> int:
    """Return the id of a trace's outermost span."""
    return trace & (1 << 64) - 1 or 1  # 0 is no id


def _ns(milliseconds: int) -> int:
    return milliseconds * 1_000_000


def _known(attributes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value is not None}
