"""The numbers: each moves when its thing happens, and none has more labels than there are words."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics, Reading
from service.model import DeliveryState, State
from service.observer import Answered, CalledBack, Handled
from service.workers import Name

READING = Reading(
    jobs={"alpha": {State.RUNNING: 3}, "gone": {State.RUNNING: 1}},
    overdue={("poll", "alpha"): 12.5, ("notify", None): 0.0},
    deliveries={DeliveryState.FAILED: 2},
    receivers_failing=1,
    files=7,
    bytes=7_000,
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3", ["alpha"])


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"reelkeeper_{name}", labels)


def shown(metrics: Metrics, reading: Reading | None = READING, accept: str = "") -> dict[tuple[str, ...], float]:
    """Return every number that is written, by its name and the values of its labels in the order of their names."""
    text, _ = metrics.exposition(accept, reading, {"submit:alpha": None, "notify": "the disk is full"})
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name.removeprefix("reelkeeper_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


# What happens


def test_a_piece_of_work_is_counted_by_its_step_its_provider_and_its_outcome(metrics: Metrics) -> None:
    metrics.handled(Handled("submit", "accepted", 0, 2.0, "alpha", "job_1"))
    metrics.handled(Handled("sweep", "swept", 0, 90.0))
    labels = {"step": "submit", "provider": "alpha", "outcome": "accepted"}
    assert value(metrics, "step_duration_seconds_count", **labels) == 1
    assert value(metrics, "step_duration_seconds_sum", **labels) == 2.0
    assert value(metrics, "step_duration_seconds_bucket", **labels, le="1.0") == 0
    assert value(metrics, "step_duration_seconds_bucket", **labels, le="2.5") == 1
    assert value(metrics, "step_duration_seconds_count", step="sweep", provider="", outcome="swept") == 1
    assert value(metrics, "polls_total", provider="alpha", outcome="accepted") is None


def test_polls_and_attempts_to_tell_are_counted_by_their_outcome(metrics: Metrics) -> None:
    metrics.handled(Handled("poll", "running", 0, 0.1, "alpha"))
    metrics.handled(Handled("poll", "unanswered", 0, 0.1, "alpha"))
    metrics.handled(Handled("notify", "delivered", 0, 0.1))
    assert value(metrics, "polls_total", provider="alpha", outcome="running") == 1
    assert value(metrics, "polls_total", provider="alpha", outcome="unanswered") == 1
    assert value(metrics, "delivery_attempts_total", outcome="delivered") == 1


def test_a_poll_or_an_attempt_that_was_not_made_is_not_counted_as_one(metrics: Metrics) -> None:
    for name in get_args(Name):
        metrics.handled(Handled("poll", name, 0, 0.1, "alpha"))
        metrics.handled(Handled("notify", name, 0, 0.1))
    told = [name for name, number in shown(metrics).items() if number]
    polls = {name[1] for name in told if name[0] == "polls_total"}
    assert polls == {"running", "completed", "failed", "cancelled", "expired", "unknown word", "unanswered"}
    assert {name[1] for name in told if name[0] == "delivery_attempts_total"} == {"delivered", "later", "gave up"}
    assert value(metrics, "step_duration_seconds_count", step="poll", provider="alpha", outcome="interrupted") == 1


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (Handled("submit", "turned away", 0, 0.1, "alpha"), "turned away"),
        (Handled("submit", "in doubt", 0, 0.1, "alpha"), "in doubt"),
        (Handled("submit", "refused", 0, 0.1, "alpha"), "refused"),
        (Handled("poll", "unanswered", 0, 0.1, "alpha"), "unanswered"),
        (Handled("poll", "unknown word", 0, 0.1, "alpha"), "unknown word"),
        (Handled("mirror", "later", 0, 0.1, "alpha", kind="OutputGoneError"), "output gone"),
        (Handled("mirror", "gave up", 0, 0.1, "alpha", kind="BadOutputError"), "output bad"),
        (Handled("mirror", "later", 0, 0.1, "alpha", kind="StorageError"), None),  # our own
        (Handled("resolve", "in doubt", 0, 0.1, "alpha"), None),  # nobody was asked
        (Handled("submit", "accepted", 0, 0.1, "alpha"), None),
    ],
)
def test_what_a_provider_did_not_do_is_counted_by_its_kind(metrics: Metrics, work: Handled, kind: str | None) -> None:
    metrics.handled(work)
    told = shown(metrics).items()
    found = {name[1]: number for name, number in told if name[0] == "provider_errors_total" and number}
    assert found == ({} if kind is None else {kind: 1})


def test_callbacks_are_counted_by_verdict_and_those_that_are_rejected_by_reason(metrics: Metrics) -> None:
    metrics.called_back(CalledBack("alpha", "applied", "job_1", 0, 0.1))
    metrics.called_back(CalledBack("alpha", "wrong_secret", "job_1", 0, 0.1, rejected=True))
    metrics.called_back(CalledBack("alpha", "missing_header", "job_1", 0, 0.1, rejected=True))
    assert value(metrics, "callbacks_total", provider="alpha", verdict="applied") == 1
    assert value(metrics, "callbacks_total", provider="alpha", verdict="rejected") == 2
    assert value(metrics, "callbacks_rejected_total", provider="alpha", reason="wrong_secret") == 1
    assert value(metrics, "callbacks_rejected_total", provider="alpha", reason="missing_header") == 1


def test_a_request_is_measured_until_its_answer_begins_which_may_stream_for_hours(metrics: Metrics) -> None:
    metrics.answered(Answered("GET", "/v1/jobs/{job_id}/events", 200, 0, 7_200.0, waited=0.02))
    labels = {"method": "GET", "route": "/v1/jobs/{job_id}/events", "status": "2xx"}
    assert value(metrics, "http_latency_seconds_sum", **labels) == 0.02


def test_what_may_wake_somebody_begins_with_0_so_that_its_first_time_is_seen(metrics: Metrics) -> None:
    told = shown(metrics)
    for name in (
        ("provider_errors_total", "in doubt", "alpha"),
        ("provider_errors_total", "output gone", "alpha"),
        ("callbacks_total", "alpha", "rejected"),
        ("delivery_attempts_total", "gave up"),
        ("jobs_entered_total", "alpha", "failed"),
    ):
        assert told[name] == 0


# What is


def test_what_the_database_holds_is_told_as_it_is_now(metrics: Metrics) -> None:
    now = shown(metrics)
    assert (now["database_up",], now["jobs", "alpha", "running"], now["jobs", "alpha", "queued"]) == (1, 3, 0)
    assert now["jobs", "gone", "running"] == 1  # of a provider that is no longer in the settings
    assert (now["overdue_seconds", "alpha", "poll"], now["overdue_seconds", "", "notify"]) == (12.5, 0)
    assert (now["deliveries", "failed"], now["deliveries", "pending"], now["receivers_failing",]) == (2, 0, 1)
    assert (now["storage_files",], now["storage_bytes",]) == (7, 7_000)
    later = shown(metrics, Reading({}, {}, {}, 0, 0, 0))
    assert ("jobs", "gone", "running") not in later
    assert ("overdue_seconds", "alpha", "poll") not in later
    assert later["jobs", "alpha", "running"] == 0


def test_without_the_database_only_what_is_known_is_told(metrics: Metrics) -> None:
    metrics.handled(Handled("poll", "running", 0, 0.1, "alpha"))
    shown(metrics)
    blind = shown(metrics, None)
    assert blind["database_up",] == 0
    assert blind["polls_total", "running", "alpha"] == 1
    gone = {"jobs", "overdue_seconds", "deliveries", "receivers_failing", "storage_files", "storage_bytes"}
    assert gone & {name[0] for name in blind} == set()


def test_workers_that_cannot_work_the_version_and_the_process_are_told(metrics: Metrics) -> None:
    now = shown(metrics)
    assert (now["worker_in_trouble", "notify"], now["worker_in_trouble", "submit:alpha"]) == (1, 0)
    assert now["build_info", "1.2.3"] == 1
    assert now["process_resident_memory_bytes",] > 0


# How it is written


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text; version=1.0.0, text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("text/plain; version=1.0.0", "text/plain; version=1.0.0"),
        ("application/openmetrics-text; version=newest", "text/plain; version=0.0.4"),
        ("text/plain; version=1.x", "text/plain; version=0.0.4"),
    ],
)
def test_it_is_written_in_the_form_that_is_asked_for(metrics: Metrics, accept: str, content_type: str) -> None:
    metrics.called_back(CalledBack("alpha", "applied", "job_1", 0, 0.1))
    text, said = metrics.exposition(accept, READING, {})
    assert said.startswith(content_type)
    parse = openmetrics.text_string_to_metric_families if "openmetrics" in said else text_string_to_metric_families
    names = {sample.name for family in parse(text.decode()) for sample in family.samples}
    assert "reelkeeper_callbacks_total" in names
    assert not [name for name in names if name.endswith("_created")]


def test_names_are_ours_and_units_are_seconds_and_bytes(metrics: Metrics) -> None:
    for family in metrics.registry.collect():
        assert family.name.startswith(("reelkeeper_", "process_"))
        assert not family.name.endswith(("_ms", "_milliseconds", "_kb", "_mb", "_count", "_total"))
        assert family.documentation.endswith(".")


@given(methods=st.lists(st.text(max_size=20), min_size=40, max_size=60), status=st.integers(0, 599))
def test_a_hostile_method_makes_no_label_of_its_own(methods: list[str], status: int) -> None:
    metrics = Metrics("1")
    for method in methods:
        metrics.answered(Answered(method, "", status, 0, 0.1))
    found = {name[1] for name in shown(metrics) if name[0] == "http_latency_seconds_count"}
    assert found <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_with_every_label_that_there_is_it_stays_small() -> None:
    providers = ["openrouter", "llmgateway"]
    metrics = Metrics("1", providers)
    for provider in providers:
        for step in ("submit", "resolve", "poll", "mirror", "notify", "erase", "models", "sweep"):
            for name in get_args(Name):
                metrics.handled(Handled(step, name, 0, 0.1, provider))
    text, _ = metrics.exposition("", READING, {})
    assert text.count(b"\n") < 10_000  # steps alone come to this, and most of them have few of the outcomes
