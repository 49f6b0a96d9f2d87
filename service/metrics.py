"""Numbers for Prometheus: what this process did since it began, and what the database holds when it is asked.

Every process counts for itself. No label holds what a stranger chose: not a path, not a model, not a tenant.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.model import DeliveryState, Job, State, Status
from service.observer import Answered, CalledBack, Handled

_STEP_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_KEPT_SECONDS = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600, 7200)
_HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REJECTED = "rejected"
_UNKNOWN = math.nan
_PROVIDER_ERRORS = {
    ("submit", "refused"),
    ("submit", "turned away"),
    ("submit", "in doubt"),
    ("poll", "unanswered"),
    ("poll", "unknown word"),
}
# What became of those that were made: others were cut off, or another process had them.
_POLLS = frozenset({*Status, "unknown word", "unanswered"})
_ATTEMPTS = ("delivered", "later", "gave up")
_OUTPUT_ERRORS = {
    "OutputError": "output failed",
    "OutputNotReadyError": "output not ready",
    "OutputGoneError": "output gone",
    "OutputTooLargeError": "output too large",
    "BadOutputError": "output bad",
}
"""What the errors of a copy are called that are not the fault of our own storage."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database holds now."""

    jobs: Mapping[str, Mapping[State, int]]  # provider -> state -> how many are in it
    overdue: Mapping[tuple[str, str | None], float]  # step and provider -> how long its oldest item is due, s
    deliveries: Mapping[DeliveryState, int]  # how many are in each state
    receivers_failing: int
    files: int  # in object storage
    bytes: int


class Metrics:
    """An observer that counts, and writes what it counted. `providers` are those in the settings."""

    def __init__(self, version: str, providers: Collection[str] = ()) -> None:
        self.registry = registry = CollectorRegistry()
        self._providers = tuple(providers)
        ProcessCollector(registry=registry)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"reelkeeper_{name}", about, labels, registry=registry)

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"reelkeeper_{name}", about, labels, registry=registry)

        def histogram(name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"reelkeeper_{name}", about, labels, registry=registry, buckets=buckets)

        Info("reelkeeper_build", "The version that runs.", registry=registry).info({"version": version})
        # What happened, in this process.
        self._entered = counter("jobs_entered", "Jobs that entered a state.", "provider", "state")
        self._failed = counter("jobs_failed", "Jobs that ended without a video, by their error.", "provider", "code")
        self._kept = histogram(
            "submit_to_kept_seconds",
            "How long jobs took from their submission until their video was kept.",
            _KEPT_SECONDS,
            "provider",
        )
        self._mirrored = counter("mirrored_bytes", "Bytes of the videos of jobs that were completed.", "provider")
        self._steps = histogram(
            "step_duration_seconds",
            "How long workers took for an item, and what became of it.",
            _STEP_SECONDS,
            "step",
            "provider",
            "outcome",
        )
        self._polls = counter("polls", "Polls, by what the provider said, in our words.", "provider", "outcome")
        self._attempts = counter("delivery_attempts", "Attempts to tell callers, by what became of them.", "outcome")
        self._errors = counter("provider_errors", "What providers did not do as they were asked.", "provider", "kind")
        self._callbacks = counter("callbacks", "Callbacks to jobs' own addresses.", "provider", "verdict")
        self._rejected = counter("callbacks_rejected", "Those of them that were rejected.", "provider", "reason")
        self._http = histogram(
            "http_latency_seconds",
            "How long requests waited for the beginning of their answer.",
            _HTTP_SECONDS,
            "method",
            "route",
            "status",
        )
        # What is, when it is asked for.
        self._trouble = gauge("worker_in_trouble", "1 when a worker of this process cannot work.", "worker")
        self._up = gauge("database_up", "1 when the database answered this scrape within a second.")
        self._jobs = gauge("jobs", "Jobs that are in a state now.", "provider", "state")
        self._overdue = gauge(
            "overdue_seconds", "For how long the oldest item of a step has been due.", "step", "provider"
        )
        self._deliveries = gauge("deliveries", "Messages to callers that are in a state now.", "state")
        self._failing = gauge(
            "receivers_failing", "Receivers with messages that were given up or are tried again, to 100."
        )
        self._files = gauge("storage_files", "Videos in object storage.")
        self._bytes = gauge("storage_bytes", "Bytes of the videos in object storage.")
        for provider in self._providers:  # what begins with 0 can be seen to grow to 1
            self._kept.labels(provider)
            self._mirrored.labels(provider)
            self._callbacks.labels(provider, _REJECTED)
            for state in State:
                self._entered.labels(provider, state)
            for kind in {*(kind for _, kind in _PROVIDER_ERRORS), *_OUTPUT_ERRORS.values()}:
                self._errors.labels(provider, kind)
        for outcome in _ATTEMPTS:
            self._attempts.labels(outcome)

    def entered(self, job: Job) -> None:
        """Count a job in its new state."""
        self._entered.labels(job.provider, job.state.value).inc()
        if job.state is State.COMPLETED:
            self._mirrored.labels(job.provider).inc(sum(artifact.bytes for artifact in job.artifacts))
            if job.finished_at is not None:
                begun = job.submitted_at or job.created_at
                self._kept.labels(job.provider).observe((job.finished_at - begun) / 1000)
        elif job.state.final and job.error is not None:
            self._failed.labels(job.provider, job.error.code.value).inc()

    def handled(self, work: Handled) -> None:
        """Count a piece of work."""
        provider = work.provider or ""
        self._steps.labels(work.step, provider, work.outcome).observe(work.seconds)
        if work.step == "poll" and work.outcome in _POLLS:
            self._polls.labels(provider, work.outcome).inc()
        elif work.step == "notify" and work.outcome in _ATTEMPTS:
            self._attempts.labels(work.outcome).inc()
        if (work.step, work.outcome) in _PROVIDER_ERRORS:
            self._errors.labels(provider, work.outcome).inc()
        elif work.step == "mirror" and work.kind in _OUTPUT_ERRORS:
            self._errors.labels(provider, _OUTPUT_ERRORS[work.kind]).inc()

    def answered(self, answer: Answered) -> None:
        """Count a request."""
        method = answer.method if answer.method in _METHODS else "other"
        self._http.labels(method, answer.route, f"{answer.status // 100}xx").observe(answer.waited)

    def called_back(self, callback: CalledBack) -> None:
        """Count a callback."""
        self._callbacks.labels(callback.provider, _REJECTED if callback.rejected else callback.verdict).inc()
        if callback.rejected:
            self._rejected.labels(callback.provider, callback.verdict).inc()

    def exposition(self, accept: str, reading: Reading | None, troubles: Mapping[str, str | None]) -> tuple[bytes, str]:
        """Write all numbers in the form that `accept` (a header) asks for; return them with their Content-Type.

        `reading` None says that the database did not answer, `troubles` what is wrong with each worker.
        """
        self._read(reading)
        self._trouble.clear()
        for worker, trouble in troubles.items():
            self._trouble.labels(worker).set(trouble is not None)
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return encode(_Shown(self.registry)), content_type

    def _read(self, reading: Reading | None) -> None:
        for gauge in (self._jobs, self._overdue, self._deliveries):
            gauge.clear()  # what is not known now is not told: old numbers look like new ones
        self._up.set(reading is not None)
        for gauge in (self._failing, self._files, self._bytes):
            gauge.set(_UNKNOWN)
        if reading is None:
            return
        for name in {*self._providers, *reading.jobs}:
            for state in State:
                self._jobs.labels(name, state.value).set(reading.jobs.get(name, {}).get(state, 0))
        for (step, provider), seconds in reading.overdue.items():
            self._overdue.labels(step, provider or "").set(seconds)
        for became in DeliveryState:
            self._deliveries.labels(became.value).set(reading.deliveries.get(became, 0))
        self._failing.set(reading.receivers_failing)
        self._files.set(reading.files)
        self._bytes.set(reading.bytes)


class _Shown(Collector):
    """What is written: neither numbers that are not known, nor when each was first counted, which doubles the lines."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample
                for sample in metric.samples
                if not sample.name.endswith("_created") and not math.isnan(sample.value)
            ]
            yield metric
