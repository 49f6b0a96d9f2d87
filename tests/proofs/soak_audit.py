"""Looks from outside at what a soak left: the provider's ledger, files, database rows, and what everybody was told."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from service.model import FINAL, ErrorCode, Face, State
from service.sandbox.behaviours import Serve, Tell
from service.sandbox.downloads import VIDEOS, WEBM
from service.sandbox.jobs import ProviderJob
from tests.endings import ending_of
from tests.proofs.soak_attack import KINDS, Strangers
from tests.proofs.soak_callers import PATHS, Backends, Diary, Told, word_of
from tests.proofs.soak_doubts import Cuts
from tests.proofs.soak_mix import Trouble, Wish
from tests.proofs.soak_world import World, job_of

LOST: Final = "lost"
STUCK: Final = "stuck"
DOUBLED: Final = "doubled at the provider"
WRONG_BYTES: Final = "wrong bytes"
BELIEVED: Final = "forged callbacks believed"
TOLD_WRONG: Final = "callers told wrong"
ENDED_WRONG: Final = "ended as the provider's behaviour does not allow"
BROKE: Final = "answered with a 5xx other than 503"
KEY_SENT: Final = "the provider's key sent to another origin"
FAULTS: Final = "faults of the service's own in its log"
HEAVY: Final = "lives that took more than 256 MiB"
UNSAID: Final = "kinds of strangers' callbacks that never came"
SPARED: Final = "kinds of troubles that came more rarely than planned"
PROMISES: Final = (
    LOST, STUCK, DOUBLED, WRONG_BYTES, BELIEVED, TOLD_WRONG, ENDED_WRONG, BROKE, KEY_SENT, FAULTS, HEAVY, UNSAID, SPARED
)  # fmt: skip

_MOST_KIB: Final = 256 * 1024

Row = Mapping[str, Any]

_LISTS: Final = {PATHS[Face.NATIVE]: ("cursor", "next_cursor"), PATHS[Face.OPENAI]: ("after", "last_id")}
"""Where jobs are listed, and how the next page is asked for and named."""


@dataclass(slots=True)
class Findings:
    """What was found: each broken promise with the jobs concerned and why; `seen` are numbers for the table."""

    broken: dict[str, dict[str, list[str]]] = field(default_factory=lambda: {promise: {} for promise in PROMISES})
    seen: dict[str, int] = field(default_factory=dict)

    def note(self, promise: str, job: str, why: str) -> None:
        """Note that a promise was broken for a job, or for a wish or a file without one."""
        self.broken[promise].setdefault(job, []).append(why)

    @property
    def well(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.broken.values())


class Audit:
    """Holds everything that a soak left against what its wishes allow."""

    def __init__(self, world: World, backends: Backends, strangers: Strangers, planned: Sequence[Trouble]) -> None:
        self.findings = Findings()
        self._planned = planned
        self._cuts = Cuts.of(world)
        self._cut_off = 0
        self._world = world
        self._backends = backends
        self._strangers = strangers
        self._made: dict[str, list[ProviderJob]] = defaultdict(list)
        for made in world.place.made:
            self._made[job_of(made.callback_url or "")].append(made)
        with world.reading() as database:
            self._jobs: dict[str, Row] = {row["id"]: dict(row) for row in database.execute("SELECT * FROM jobs")}
            self._events = _by_job(database.execute("SELECT * FROM events ORDER BY job_id, seq").fetchall())
            self._artifacts = _by_job(database.execute("SELECT * FROM artifacts ORDER BY job_id, idx").fetchall())
            self._owed = _by_job(database.execute("SELECT * FROM deliveries ORDER BY job_id, id").fetchall())
            self._receipts = _by_job(database.execute("SELECT * FROM receipts").fetchall())

    async def run(self) -> Findings:
        """Look at everything."""
        place = self._world.place
        headers = {"authorization": f"Bearer {place.key}"}
        async with httpx.AsyncClient(base_url=place.url, headers=headers, trust_env=False, timeout=30) as client:
            listed = {path: await _listed(client, path, *names) for path, names in _LISTS.items()}
            for wish in self._backends.wishes:
                diary = self._backends.diaries[wish.number]
                job = self._jobs.get(diary.job_id or "")
                if diary.job_id is None or job is None:
                    why = "it was never accepted" if diary.job_id is None else "it was accepted, and is not there"
                    self.findings.note(LOST, diary.job_id or wish.prompt, f"{why}: {wish}")
                    continue
                try:
                    self._look_at(wish, job, diary)
                    await self._ask(client, wish, job, listed)
                except Exception as error:
                    error.add_note(f"{wish}\n{await place.tell(job['id'])}")
                    raise
        self._look_at_strays()
        self._look_at_files()
        self._look_at_callbacks()
        self._look_at_downloads()
        self._look_at_log()
        self._look_at_the_soak()
        return self.findings

    def _look_at(self, wish: Wish, job: Row, diary: Diary) -> None:
        note, job_id, made = self.findings.note, job["id"], self._made[job["id"]]
        if job["state"] not in FINAL:
            note(STUCK, job_id, f"it is {job['state']}")
            return
        if len(made) > 1:
            note(DOUBLED, job_id, f"the provider made {[each.id for each in made]}")
        self._look_at_end(wish, job, diary)
        for artifact in self._artifacts[job_id]:
            for why in _faults(artifact, job, made, self._world.videos):
                note(WRONG_BYTES, job_id, why)
        if job["state"] == State.COMPLETED:
            outputs = made[0].behaviour.outputs if made and job["provider"] == "openrouter" else 1
            indexes = [artifact["idx"] for artifact in self._artifacts[job_id]]
            if indexes != list(range(outputs)):
                note(WRONG_BYTES, job_id, f"it is completed with outputs {indexes} of {outputs}")
        self._look_at_messages(wish, job, diary)

    def _look_at_end(self, wish: Wish, job: Row, diary: Diary) -> None:
        ending, made = ending_of(wish.behaviour, wish.provider), self._made[job["id"]]
        ended = (State(job["state"]), job["error_code"])
        if diary.cancelled == 200:
            self._count("cancelled by their callers")
            if job["state"] != State.CANCELLED or (made and ending.state is not State.CANCELLED):  # by its provider
                self.findings.note(TOLD_WRONG, job["id"], f"its cancellation was confirmed, and it is {ended}")
        elif ended == (State.FAILED, ErrorCode.SUBMISSION_UNKNOWN) and job["doubts"]:
            silent = not made or made[0].behaviour.tell in {Tell.NEVER, Tell.FORGED, Tell.STALE}
            self._count(
                "cut off, with nobody to tell their outcome" if made else "cut off before the provider had them"
            )
            self._cut_off += 1
            if not silent:
                self.findings.note(ENDED_WRONG, job["id"], f"{ended}, although the provider told how it ended")
            if not self._cuts.explain(self._events[job["id"]]):
                self.findings.note(ENDED_WRONG, job["id"], f"{ended}, although no death and no outage cut it off")
        elif ended != (ending.state, ending.code):
            self.findings.note(ENDED_WRONG, job["id"], f"{ended} instead of {(ending.state, ending.code)}: {wish}")
        elif len(made) != ending.paid:
            promise = DOUBLED if made else LOST
            self.findings.note(promise, job["id"], f"the provider made {len(made)} jobs instead of {ending.paid}")

    def _look_at_messages(self, wish: Wish, job: Row, diary: Diary) -> None:
        """Compare every message with the ends of the job: one delivery for each, told in full, and nothing else."""
        endings = [event["type"].removeprefix("job.") for event in self._events[job["id"]]]
        endings = [word for word in endings if word in FINAL]
        wrong = [f"it ended {len(endings)} times: {endings}"] if endings[-1:] != [job["state"]] else []
        recovered = [event["data"] for event in self._events[job["id"]] if event["type"] == "job.recovered"]
        if len(endings) != 1 + len(recovered) or len(set(recovered)) < len(recovered):
            wrong.append(f"it ended {endings}, and was recovered by {recovered}")
        if recovered:
            self._count("given up, and recovered")
        owed = self._owed[job["id"]]
        if wish.receiver is not None:
            if [each["ended"] for each in owed] != endings:
                wrong.append(f"it ended {endings}, and owed are {[each['ended'] for each in owed]}")
            for each in owed:
                if each["state"] != "delivered":
                    self.findings.note(STUCK, job["id"], f"its caller was not told {each['ended']}: {each['state']}")
        rights = {_name_of(wish, each): _word_of(wish.face, each["ended"]) for each in owed}
        wrong += [f"it was told {told}" for told in diary.told if not _is_right(told, job["id"], rights)]
        untold = set(rights) - {told.id for told in diary.told if told.taken}
        wrong += [f"its caller never took {name}" for name in untold]
        if wish.receiver is None and not {*diary.words[-1:]} & {_word_of(wish.face, word) for word in endings}:
            wrong.append(f"its caller polled {diary.words}")
        for why in wrong:
            self.findings.note(TOLD_WRONG, job["id"], why)

    async def _ask(
        self, client: httpx.AsyncClient, wish: Wish, job: Row, listed: Mapping[str, Mapping[str, str]]
    ) -> None:
        for path in {PATHS[wish.face], PATHS[Face.NATIVE]}:
            answer = await client.get(f"{path}/{job['id']}")
            face = next(face for face, its in PATHS.items() if its == path)
            word = word_of(answer.json()) if answer.status_code == 200 else str(answer.status_code)
            if word != _word_of(face, job["state"]):
                self.findings.note(TOLD_WRONG, job["id"], f"GET {path} says {word}, and it is {job['state']}")
        for path, words in listed.items():
            face = next(face for face, its in PATHS.items() if its == path)
            if words.get(job["id"]) != _word_of(face, job["state"]):
                self.findings.note(TOLD_WRONG, job["id"], f"the list of {path} says {words.get(job['id'])}")

    def _look_at_strays(self) -> None:
        """Find jobs that nobody was given, and jobs at the provider that we know nothing of."""
        given = {diary.job_id for diary in self._backends.diaries.values()}
        prompts: dict[str, list[str]] = defaultdict(list)
        for job_id, job in self._jobs.items():
            prompts[json.loads(job["request"]).get("prompt", "")].append(job_id)
        for prompt, ids in prompts.items():
            for job_id in ids[1:] if len(ids) > 1 else []:
                self.findings.note(DOUBLED, job_id, f"{prompt!r} became {ids}")
            if len(ids) == 1 and ids[0] not in given:
                self.findings.note(LOST, ids[0], "it was accepted, and its caller does not know it")
        for job_id in set(self._made) - set(self._jobs):
            self.findings.note(LOST, job_id, "the provider has it, and we have not")

    def _look_at_files(self) -> None:
        kept = {artifact["key"]: job_id for job_id, rows in self._artifacts.items() for artifact in rows}
        for path in self._world.videos.rglob("*"):
            key = str(path.relative_to(self._world.videos))
            if path.is_file() and key not in kept:
                owner = next((part for part in path.parts if part in self._jobs), key)
                self.findings.note(WRONG_BYTES, owner, f"a file that belongs to no job: {key}")

    def _look_at_callbacks(self) -> None:
        for job_id, why in self._strangers.believed:
            self.findings.note(BELIEVED, job_id, why)
        for job_id, why in self._strangers.broke:
            self.findings.note(BROKE, job_id, why)
        genuine = {
            (job_of(heard.url), heard.body)
            for heard in self._world.heard
            if self._made[job_of(heard.url)][0].behaviour.tell not in {Tell.FORGED, Tell.STALE}
        }
        for job_id, receipts in self._receipts.items():
            for receipt in receipts:
                if receipt["verdict"] != "mismatched" and (job_id, receipt["body"]) not in genuine:
                    self.findings.note(BELIEVED, job_id, f"kept as genuine: {receipt['body'][:200]!r}")
        for job_id, all_made in self._made.items():
            for sent in (sent for made in all_made for sent in made.callbacks):
                self._count(f"{sent.kind} callbacks of the provider")
                if sent.kind in ("forged", "stale") and sent.status is not None and sent.status < 300:
                    self.findings.note(BELIEVED, job_id, f"{sent}")

    def _look_at_downloads(self) -> None:
        for job_id, all_made in self._made.items():
            for download in (download for made in all_made for download in made.downloads):
                if download.authorization is not (download.via == "content"):
                    self.findings.note(KEY_SENT, job_id, f"{download}")

    def _look_at_log(self) -> None:
        """Find what was not foreseen: it is logged with a traceback, and nothing else is."""
        with (self._world.place.folder / "log.jsonl").open(encoding="utf-8") as log:
            for line in log:
                said = json.loads(line) if line.startswith("{") else {"event": line, "exception": line}
                if "exception" in said:
                    self.findings.note(FAULTS, str(said.get("job", said["event"])), line[:4_000])

    def _look_at_the_soak(self) -> None:
        """Find what would have let it pass although little happened, and what is true of no single job."""
        if self._cut_off > self._cuts.most:
            self.findings.note(ENDED_WRONG, "all", f"{self._cut_off} were cut off, and {self._cuts.most} can have been")
        for life, kib in self._world.peaks.items():
            if kib > _MOST_KIB:
                self.findings.note(HEAVY, f"process {life}", f"{kib / 1024:.0f} MiB")
        for kind in unsaid(self._strangers.answers):
            self.findings.note(UNSAID, kind, f"the answers: {dict(self._strangers.answers)}")
        for kind, count in spared(self._planned, self._world.seen).items():
            self.findings.note(SPARED, kind, f"{count} of those that were planned never came")

    def _count(self, what: str) -> None:
        self.findings.seen[what] = self.findings.seen.get(what, 0) + 1


def unsaid(answers: Counter[str]) -> list[str]:
    """Name the kinds of callbacks that strangers never had answered, and forgeries if none was refused as such."""
    answered = dict.fromkeys(KINDS, 0)
    for name, count in answers.items():
        kind, answer = name.split()
        answered[kind] += count if answer.isdigit() else 0
    missing = [kind for kind, count in answered.items() if not count]
    return missing if answers["forged 401"] else [*missing, "forged, answered 401"]


def spared(planned: Sequence[Trouble], seen: Counter[str]) -> Counter[str]:
    """Count the troubles of each kind that were planned and did not come."""
    return Counter(trouble.kind for trouble in planned) - seen


async def _listed(client: httpx.AsyncClient, path: str, parameter: str, cursor: str) -> dict[str, str]:
    """Return what a list says of each job, read page by page."""
    words: dict[str, str] = {}
    query: dict[str, str] = {"limit": "100"}
    while True:
        page = (await client.get(path, params=query)).json()
        words |= {job["id"]: word_of(job) for job in page["data"]}
        if not page["has_more"]:
            return words
        query[parameter] = page[cursor]


def _by_job(rows: list[Any]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["job_id"]].append(dict(row))
    return found


def _faults(artifact: Row, job: Row, all_made: list[ProviderJob], videos: Path) -> list[str]:
    """Compare an artifact and its file with what the sandbox serves for the provider's job."""
    made = next((made for made in all_made if made.id == job["provider_job_id"]), None)
    if made is None:
        return [f"its video is of {job['provider_job_id']}, which the provider did not make for it"]
    webm = made.behaviour.serve is Serve.WEBM
    shipped = WEBM if webm else VIDEOS[(made.number + artifact["idx"]) % len(VIDEOS)]
    said = (len(shipped), hashlib.sha256(shipped).hexdigest(), "video/webm" if webm else "video/mp4")
    faults = []
    if (artifact["bytes"], artifact["sha256"], artifact["content_type"]) != said:
        faults.append(f"its record says {artifact}")
    file = videos / artifact["key"]
    if not file.is_file() or file.read_bytes() != shipped:
        faults.append(f"{artifact['key']} is not what the provider serves")
    return faults


def _word_of(face: Face, state: str) -> str:
    return "failed" if face is Face.OPENAI and state in (State.CANCELLED, State.EXPIRED) else state


def _name_of(wish: Wish, delivery: Row) -> str:
    """Return what names a delivery on the wire."""
    return f"{delivery['job_id']}-{delivery['ended']}" if wish.face is Face.OPENROUTER else str(delivery["id"])


def _is_right(told: Told, job_id: str, rights: Mapping[str, str]) -> bool:
    return told.genuine and told.job_id == job_id and rights.get(told.id) == told.state
