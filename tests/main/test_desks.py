"""What every place that commands work at does alike: one suite for the database here and for a service elsewhere."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from service.model import DeliveryAttempt, Job, VideoRequest
from service.records import Records
from service.store import Created, NewJob
from service.web.acting import by_hand
from tests.main.shell import LocalDesk, RemoteDesk
from tests.main.test_callbacks import rejected
from tests.main.test_jobs import completed, in_doubt, queued, refused, told, unavailable

ALL_KINDS = (queued, refused, unavailable, told)


async def many(records: Records, count: int = 130) -> list[str]:
    made = []
    for number in range(count):
        request = VideoRequest(model="m", prompt=f"kite number{number}")
        created = await records.store.create_job(NewJob("studio", "openrouter", request))
        assert isinstance(created, Created)
        made.append(created.job.id)
    return sorted(made, reverse=True)


def ids(desk: LocalDesk, *options: str) -> list[str]:
    result = desk.run("jobs", "list", *options)
    assert result.exit_code == 0, result.output
    return [line.split("\t")[0] for line in result.stdout.splitlines()]


def test_a_list_says_when_there_is_more_and_can_be_had_whole(desk: LocalDesk) -> None:
    made = desk.with_records(many)
    short = desk.run("jobs", "list")
    assert [line.split("\t")[0] for line in short.stdout.splitlines()] == made[:20]
    assert short.stderr == (
        "reelkeeper: the newest 20 are shown, and there are more: --limit N shows N of them, --all shows all\n"
    )
    assert ids(desk, "--limit", "125") == made[:125]
    whole = desk.run("jobs", "list", "--all")
    assert ([line.split("\t")[0] for line in whole.stdout.splitlines()], whole.stderr) == (made, "")
    listed = json.loads(desk.run("jobs", "list", "--all", "--json").stdout)
    assert [job["id"] for job in listed] == made
    assert json.loads(desk.run("jobs", "list", "--state", "failed", "--json").stdout) == []


def test_jobs_are_found_by_whatever_is_known_of_them(desk: LocalDesk) -> None:
    failed, done = desk.with_records(refused), desk.with_records(completed)
    other = desk.with_records(lambda records: queued(records, "sora"))
    assert ids(desk, "--state", "failed") == [failed.id]
    assert ids(desk, "--error", "invalid_request") == [failed.id]
    assert ids(desk, "--model", "sora") == [other.id]
    assert ids(desk, "--provider", "llmgateway") == []
    assert ids(desk, "--tenant", "studio") == [other.id, done.id, failed.id]
    assert ids(desk, "--tenant", "nobody") == []
    assert ids(desk, "--text", "cat sora") == [other.id]
    assert ids(desk, "--text", "gen-1") == [done.id]
    assert ids(desk, "--text", done.id) == [done.id]
    assert ids(desk, "--since", "1h") == [other.id, done.id, failed.id]
    assert ids(desk, "--since", "2100-01-01T00:00:00Z") == []
    assert "30m, 2h, 3d or 1w" in desk.fails("jobs", "list", "--since", "yesterday", code=2)
    assert "content_policy" in desk.fails("jobs", "list", "--error", "oops", code=2)


@pytest.mark.parametrize(("made", "code"), [(completed, 0), (refused, 1)])
def test_who_watches_an_ended_job_sees_its_history_and_how_it_ended(
    made: Callable[[Records], Awaitable[Job]], code: int, desk: LocalDesk
) -> None:
    job = desk.with_records(made)
    result = desk.run("jobs", "watch", job.id)
    assert result.exit_code == code
    assert [line.split("\t")[1] for line in result.stdout.splitlines()][-1] == f"job.{job.state}"
    assert f"{job.id} is {job.state}" in result.stderr
    lines = [json.loads(line) for line in desk.run("jobs", "watch", job.id, "--json").stdout.splitlines()]
    assert lines == json.loads(desk.run("jobs", "show", job.id).stdout)["events"]
    assert [line["id"] for line in lines] == list(range(1, len(lines) + 1))


def test_who_watches_a_job_sees_it_end(desk: LocalDesk) -> None:
    job = desk.with_records(queued)
    with desk.started("jobs", "watch", job.id) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split("\t")[1] == "job.queued"
        desk.with_records(lambda records: records.store.cancel(job.id))
        assert process.stdout.readline().split("\t")[1] == "job.cancelled"
        assert process.wait(20) == 1


def test_an_unknown_job_is_not_watched(desk: LocalDesk) -> None:
    assert "there is no job job_x" in desk.fails("jobs", "watch", "job_x")


def test_keys_are_made_listed_and_revoked(desk: LocalDesk) -> None:
    made = json.loads(desk.run("keys", "create", "my-backend", "--tenant", "studio", "--json").stdout)
    assert made.pop("key").startswith("rk_")
    assert made in json.loads(desk.run("keys", "list", "--json").stdout)
    assert f"\n{made['id']}\tmy-backend\tstudio\tcaller\t" in "\n" + desk.run("keys", "list").stdout
    for _ in range(2):
        assert desk.run("keys", "revoke", made["id"]).stdout.startswith(f"{made['id']} is revoked, since ")
    assert f"there is no key key_x {desk.where}" in desk.fails("keys", "revoke", "key_x")


def test_what_a_receiver_did_not_take_is_owed_to_it_again(desk: LocalDesk) -> None:
    unknown = desk.fails("receivers", "redeliver", "https://backend.example.com")
    assert "there is no receiver https://backend.example.com" in unknown
    assert "`reelkeeper receivers list`" in unknown
    assert "GET " not in unknown
    desk.with_records(told)
    assert desk.run("receivers", "list", "--json").exit_code == 0
    said = desk.run("receivers", "redeliver", "https://backend.example.com", "--tenant", "studio")
    assert said.stdout == (
        "0 messages are owed to https://backend.example.com:443 again (tenant studio): "
        "0 given up before, 0 waiting after a failed attempt\n"
    )


def test_what_waits_for_its_next_attempt_is_sent_at_once(desk: LocalDesk) -> None:
    async def refused_once(records: Records) -> None:
        for _ in range(8):
            await told(records)
        refused, gone = (DeliveryAttempt(1, 8, status, None, "no") for status in (503, 410))
        while claimed := await records.deliveries.claim(100, each=100):
            for number, delivery in enumerate(claimed):
                if number == 0:
                    assert await records.deliveries.gave_up(delivery, gone)
                else:
                    assert await records.deliveries.try_again(delivery, refused, 9_999_999_999_999)

    desk.with_records(refused_once)
    redeliver = ("receivers", "redeliver", "https://backend.example.com")
    done = json.loads(desk.run(*redeliver, "--json").stdout)
    assert (done["redelivered"], done["given_up"] + done["waiting"]) == (8, 8)
    assert done["given_up"] > 0
    assert done["waiting"] > 0
    [failing] = json.loads(desk.run("receivers", "list", "--json").stdout)
    assert (failing["failed"], failing["pending"]) == (0, 8), "it has taken nothing yet"
    assert json.loads(desk.run(*redeliver, "--json").stdout)["redelivered"] == 0


async def failing(records: Records, count: int, tenant: str = "studio") -> None:
    for number in range(count):
        request = VideoRequest(model="m", prompt="a kite")
        url = f"https://backend{number}.example.com/done"
        created = await records.store.create_job(NewJob(tenant, "openrouter", request, notify_url=url))
        assert isinstance(created, Created)
        assert await records.store.cancel(created.job.id)
    refused = DeliveryAttempt(1, 8, 502, None, "Bad Gateway")
    while claimed := await records.deliveries.claim(count, each=1):
        for delivery in claimed:
            assert await records.deliveries.gave_up(delivery, refused)


def test_a_list_of_receivers_says_when_there_are_more(desk: LocalDesk) -> None:
    desk.with_records(lambda records: failing(records, 101))
    short = desk.run("receivers", "list", "--limit", "2")
    assert (short.exit_code, len(short.stdout.splitlines())) == (0, 2)
    assert short.stderr == (
        "reelkeeper: the 2 with the newest trouble are shown, and there are more: --limit shows up to 100\n"
    )
    most = desk.run("receivers", "list", "--limit", "100", "--json")
    assert len(json.loads(most.stdout)) == 100
    assert most.stderr == "reelkeeper: the 100 with the newest trouble are shown, and there are more\n"


def test_whose_messages_are_meant_is_asked_when_a_receiver_fails_for_several(desk: LocalDesk) -> None:
    redeliver = ("receivers", "redeliver", "https://backend0.example.com")
    desk.with_records(lambda records: failing(records, 1))
    assert "1 message is owed" in desk.run(*redeliver).stdout
    for tenant in ("acme", "globex"):
        desk.with_records(partial(failing, count=1, tenant=tenant))
    assert "this receiver fails for several, acme, globex" in desk.fails(*redeliver)
    assert "1 message is owed" in desk.run(*redeliver, "--tenant", "globex").stdout


def test_a_list_of_all_receivers_says_no_more(desk: LocalDesk) -> None:
    desk.with_records(lambda records: failing(records, 2))
    whole = desk.run("receivers", "list", "--limit", "2")
    assert (len(whole.stdout.splitlines()), whole.stderr) == (2, "")


def test_both_places_print_the_same(tmp_path: Path) -> None:
    remote, local = RemoteDesk(tmp_path), LocalDesk(tmp_path)
    local.settings = remote.settings
    with remote.served():
        jobs = [local.with_records(made) for made in ALL_KINDS]
        local.with_records(rejected)
        for words in (
            *(("jobs", "show", job.id) for job in jobs),
            ("jobs", "list"),
            ("jobs", "list", "--json"),
            ("jobs", "watch", jobs[1].id, "--json"),
            ("keys", "list", "--json"),
            ("callbacks", "rejected", "--json"),
            ("receivers", "list", "--json"),
        ):
            here, there = local.run(*words), remote.run(*words)
            assert (here.exit_code, here.stdout) == (there.exit_code, there.stdout), words
            assert here.stdout.strip(), words


def test_a_retry_here_there_and_on_the_page_is_one_job(tmp_path: Path) -> None:
    remote, local = RemoteDesk(tmp_path), LocalDesk(tmp_path)
    local.settings = remote.settings
    with remote.served():
        job = local.with_records(refused)
        pressed = local.with_records(lambda records: records.store.retry(job, by_hand(job)))
        assert isinstance(pressed, Created)
        for desk in (remote, local, remote):
            assert json.loads(desk.run("jobs", "retry", job.id, "--json").stdout)["id"] == pressed.job.id


def test_an_id_is_bound_and_told_as_json(desk: LocalDesk) -> None:
    job = desk.with_records(in_doubt)
    bound = json.loads(desk.run("jobs", "attach", job.id, "gen-7", "--json", "--yes").stdout)
    assert (bound["state"], bound["provider_job_id"]) == ("running", "gen-7")
