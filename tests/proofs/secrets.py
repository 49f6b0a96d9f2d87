"""Puts a canary into every secret, has everything happen that could let it out, and looks for it everywhere.

    python -m tests.proofs.secrets [--plant PLACE]

The service is a real process before a sandbox, with a real bucket. `--plant` puts one secret where it must not be, to
see it found.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx

from service.config import Config
from service.records import open_records
from service.sandbox import BEHAVIOURS
from service.vault import Vault
from tests.places import until
from tests.proofs.canaries import Cell, around, search, word
from tests.proofs.command import carry_out, options
from tests.proofs.secrets_scene import (
    ANSWERS,
    DATABASE,
    LOG,
    METRICS,
    PLACES,
    PROCESSES,
    SAID,
    STORAGE,
    TOLD,
    Scene,
    scene,
)
from tests.proofs.shelves import BucketShelf
from tests.proofs.tables import machine, show, table
from tests.servers import seaweedfs

_SLOW = {"never-ends", "callback-late", "html-forever", "endless-body"}  # they take minutes, and say nothing new
MODELS: Final = tuple(model for model in BEHAVIOURS if model.partition("/")[2] not in _SLOW)


async def everything(scene: Scene, models: Sequence[str]) -> None:
    """Have everything happen."""
    await _keys(scene)
    await _other_faces(scene)
    await _behaviours(scene, models)
    await _settled(scene)
    await _reading(scene)
    await _bad_requests(scene)
    await _bad_callbacks(scene)
    await _a_crash(scene)
    await _commands(scene)
    await _numbers(scene)


async def _keys(scene: Scene) -> None:
    known = scene.known.all["API keys"]
    known.add(scene.place.key)
    async with open_records(Config.read(scene.place.settings)) as records:
        _, operator = await records.keys.create("ops", "studio", operator=True)
        record, revoked = await records.keys.create("gone", "studio")
        await records.keys.revoke(record.id)
    known.add(operator, revoked)
    mistyped = scene.known.all["API keys, mistyped"]
    for wrong in (word(), f"rk_{word(43)}", f"{operator[:-1]}_"):
        mistyped.add(wrong[-20:] if wrong.startswith(operator[:8]) else wrong)
        for headers in (
            {"authorization": f"Bearer {wrong}"},
            {"authorization": f"Basic {wrong}"},
            {"authorization": wrong},
            {"x-api-key": wrong},
            {"cookie": f"session={wrong}"},
        ):
            for path in ("/v1/jobs", "/status", "/v1/videos", f"/v1/jobs?api_key={wrong}&key={wrong}"):
                await scene.http.get(path, headers=headers)
    for key in (operator, revoked):
        for path in ("/v1/jobs", "/status", "/readyz", "/openapi.json", "/metrics", f"/v1/jobs?access_token={key}"):
            await scene.http.get(path, headers={"authorization": f"Bearer {key}"})


async def _other_faces(scene: Scene) -> None:
    new, host = scene.known.new, scene.receiver.host
    path = new("receivers: path", 24)  # of no length that is known for another secret's
    data = f"data:image/png;base64,{new('inputs: data')}AAAA"
    await scene.ask(
        "/v1/videos",
        {
            "model": "sandbox/ok",
            "prompt": "a kite",
            "seconds": "4",
            "image": data,
            "callback_url": f"http://{host}/{path}?token={new('receivers: query')}",
            "callback_secret": new("callback_secret of callers"),
        },
    )
    await scene.ask("/api/v1/videos", {"model": "sandbox/urls", "prompt": "a kite", "duration": 4})
    for url in (
        f"https://{new('receivers: user')}:{new('receivers: user')}@hooks.example/x",
        f"ftp://hooks.example/{new('receivers: user')}",
        f"http://hooks.example/?token={new('receivers: user')}",
        f"http://[{new('receivers: user')}",
    ):
        await scene.ask("/v1/jobs", {"model": "sandbox/ok", "provider": "openrouter", "prompt": "x", "notify_url": url})


async def _behaviours(scene: Scene, models: Sequence[str]) -> None:
    new, host = scene.known.new, scene.receiver.host
    last = "sandbox/refused-402"  # after it nobody asks for a while
    prompts = [
        ("sandbox/ok", "quote"),
        ("sandbox/ok", "quote escaped"),
        *((model, word(8)) for model in models if model != last),
    ]
    for model, prompt in [*prompts, (last, "a kite")]:
        if model == last:
            await until(scene.submitted, 60)
        for provider in ("openrouter", "llmgateway"):
            signed = f"https://bucket.example/{word(8)}.png?X-Amz-Signature={new('inputs: signed URL')}"
            url = f"http://{host}/told?token={new('receivers: query')}&path=x"
            body = {"provider": provider, "model": model, "prompt": prompt, "duration": 4}
            answer = await scene.ask("/v1/jobs", {**body, "first_frame": signed, "notify_url": url})
            answer.raise_for_status()


async def _settled(scene: Scene) -> None:
    async def over() -> bool:
        return all(job.state.final for job in await scene.place.jobs())

    await until(over, 120)
    vault = [Vault([key]) for key in Config.read(scene.place.settings).secret_keys]
    for each in vault:
        for job_id in scene.jobs:
            scene.known.all["callback tokens"].add(each.callback_token(job_id))
            scene.known.all["callback secrets of jobs"].add(each.callback_secret(job_id))
        scene.known.all["delivery secrets"].add(each.delivery_secrets("studio")[0].removeprefix("whsec_"))


async def _reading(scene: Scene) -> None:
    for job in scene.jobs:
        for rest in ("", "/events", "/deliveries", "/content", "/content?index=1", "/content?poster=1"):
            await scene.http.get(f"/v1/jobs/{job}{rest}", headers=scene.own)
        for face in ("/api/v1/videos", "/v1/videos"):
            await scene.http.get(f"{face}/{job}", headers=scene.own)
            await scene.http.get(f"{face}/{job}/content", headers=scene.own)
        await scene.http.post(f"/v1/jobs/{job}/redeliver", headers=scene.own)
    for path in ("/v1/jobs", "/v1/videos", "/healthz", "/readyz", "/v1/models", "/status"):
        await scene.http.get(path, headers=scene.own)


async def _bad_requests(scene: Scene) -> None:
    described = (await scene.http.get("/openapi.json")).json()
    for path, methods in described["paths"].items():
        for method in set(methods) & {"get", "post", "delete", "put"}:
            secret = scene.known.new("API keys, mistyped")
            url = re.sub(r"\{[^}]*\}", scene.jobs[0], path)
            other = re.sub(r"\{[^}]*\}", f"rk_{secret}", path)
            if method == "delete":
                url = other
            for body in (
                json.dumps({"api_key": secret, "authorization": f"Bearer {secret}", "model": {"token": secret}}),
                json.dumps({"model": 7, "prompt": ["x"], "notify_url": {"secret": secret}, "duration": f"rk_{secret}"}),
                json.dumps({"jobs": [{"callback_secret": secret, "callback_url": 1}]}),
                f'{{"password": "{secret}"',
            ):
                headers = scene.own | {"content-type": "application/json", "cookie": f"a={secret}"}
                sent = body.encode() if method in ("post", "put") else None
                for where in (url, f"{url}?api_key={secret}&limit=x", other):
                    await scene.http.request(method, where, content=sent, headers=headers)


async def _bad_callbacks(scene: Scene) -> None:
    stranger = scene.known.all["signatures and cookies of strangers"]
    vault = Vault(Config.read(scene.place.settings).secret_keys)
    for job, provider in [(job, provider) for job in scene.jobs[-6:] for provider in ("openrouter", "llmgateway", "x")]:
        token = vault.callback_token(job)
        mac = word(44)
        stranger.add(mac)
        headers = {
            "content-type": "application/json",
            "x-openrouter-signature": f"t=1700000000,v1={mac}",
            "webhook-id": "evt_1",
            "webhook-timestamp": "1700000000",
            "webhook-signature": f"v1,{mac}",
            "authorization": f"Bearer {mac}",
            "cookie": f"a={mac}",
        }
        for path in (
            f"/callbacks/{provider}/{job}/{token}",
            f"/callbacks/{provider}/{job}/{token}/",
            f"/callbacks/{provider}/{job}/{token}?again=1",
            f"/Callbacks/{provider}/{job}/{token}",
            f"/callbacks//{provider}/{job}/{token}",
            f"/callbacks/{job}/{token}",
            f"/%63allbacks/{provider}/{job}/{token}",
            f"/callbacks%2F{provider}%2F{job}%2F{token}",
            f"/proxy/callbacks/{provider}/{job}/{token}",
            f"/callbacks/{provider}/{job}?token={token}",
            f"/{token}",
        ):
            await scene.http.post(path, content=b'{"type": "x"}', headers=headers)
            await scene.http.get(path)


async def _a_crash(scene: Scene) -> None:
    """Have a handler fail in a way that nobody foresaw, with a secret in what it works on."""
    with closing(sqlite3.connect(scene.place.folder / "reelkeeper.db", timeout=10)) as connection, connection:
        spoilt = json.dumps({"model": "m", "first_frame": f"https://x.example/?sig={word()}", "nonsense": 1})
        [(job,)] = connection.execute("SELECT id FROM jobs WHERE state = 'completed' LIMIT 1").fetchall()
        [(before,)] = connection.execute("SELECT request FROM jobs WHERE id = ?", (job,)).fetchall()
        connection.execute("UPDATE jobs SET request = ? WHERE id = ?", (spoilt, job))
    answer = await scene.http.get(f"/v1/jobs/{job}", headers=scene.own)
    assert answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    with closing(sqlite3.connect(scene.place.folder / "reelkeeper.db", timeout=10)) as connection, connection:
        connection.execute("UPDATE jobs SET request = ? WHERE id = ?", (before, job))


async def _commands(scene: Scene) -> None:
    wrong = scene.known.new("storage credentials")
    short = word(20)
    scene.known.all["secret keys"].add(short)
    await asyncio.gather(
        scene.command("check"),
        scene.command("check", AWS_SECRET_ACCESS_KEY=wrong, AWS_SESSION_TOKEN=scene.known.session),
        scene.command("serve", REELKEEPER_SECRET_KEY=short, OPENROUTER_API_KEY=f"{scene.known.openrouter} x"),
        scene.command("check", OPENROUTER_BASE_URL=f"https://{scene.known.openrouter}@openrouter.example/"),
    )
    for words in (("keys", "list"), ("jobs", "list", "--limit", "500"), ("migrate",)):
        await scene.command(*words)
    await scene.command("backup", str(scene.place.folder / "copy.db"))
    for job in scene.jobs[::8]:
        await scene.command("jobs", "show", job)
    created = await scene.command("keys", "create", "later", place="shown once")
    scene.known.all["API keys"].add(created.splitlines()[-1])
    shown = await scene.command("keys", "delivery-secret", "studio", place="shown once")
    scene.known.all["delivery secrets"].add(shown.splitlines()[-1].removeprefix("whsec_"))


async def _numbers(scene: Scene) -> None:
    """Scrape what all of that was counted as."""
    async with open_records(Config.read(scene.place.settings)) as records:
        _, key = await records.keys.create("prometheus", "studio", operator=True)
    scene.known.all["API keys"].add(key)
    for accept in ("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"):
        answer = await scene.http.get("/metrics", headers={"authorization": f"Bearer {key}", "accept": accept})
        for name in ("jobs_failed", "callbacks_rejected", "provider_errors", "http_latency_seconds"):
            assert f"reelkeeper_{name}" in answer.text


def left_behind(scene: Scene) -> dict[str, bytes]:
    """Return all bytes of every place."""
    folder = scene.place.folder
    databases = sorted(folder.glob("*.db*"))
    stored = BucketShelf(scene.server, folder.name).files()
    lines = [Path(f"/proc/{life}/cmdline").read_bytes() for life in scene.place.lives if Path(f"/proc/{life}").exists()]
    return {
        LOG: (folder / "log.jsonl").read_bytes(),
        DATABASE: b"\n".join(path.read_bytes() for path in databases),
        STORAGE: b"\n".join(name.encode() + b"\n" + content for name, content in stored.items()),
        ANSWERS: b"\n".join(scene.heard[ANSWERS]),
        METRICS: b"\n".join(scene.heard[METRICS]),
        TOLD: b"\n".join(f"{told.headers}".encode() + told.body for told in scene.receiver.told),
        SAID: b"\n".join(scene.heard[SAID]),
        PROCESSES: b"\n".join(lines),
    }


def report(cells: Sequence[Cell]) -> str:
    """Return the matrix, and the reasons for what may or must be somewhere."""
    names = list(dict.fromkeys(cell.canary for cell in cells))
    by = {(cell.canary, cell.place): cell for cell in cells}
    rows = []
    for name in names:
        row = [name]
        for place in PLACES:
            cell = by[name, place]
            said = cell.says.partition(":")[0]
            row.append(f"{'yes' if cell.found else 'no'} ({said})" if ":" in cell.says else said)
        rows.append(row)
    reasons = sorted({f"- {cell.canary}, {cell.place}: {cell.says}" for cell in cells if ":" in cell.says})
    return "\n".join([table(("secret", *PLACES), rows), "", *reasons])


async def measure(
    models: Sequence[str] = MODELS, plant: str | None = None
) -> tuple[list[Cell], list[str], Mapping[str, int]]:
    """Return every cell of the matrix, what stands around unexpected finds, and how many bytes were searched."""
    with tempfile.TemporaryDirectory() as name, seaweedfs(Path(name)) as server:
        folder = Path(name) / "place"
        folder.mkdir()
        async with scene(folder, server) as found:
            await everything(found, models)
            places = left_behind(found)
            canaries = list(found.known.all.values())
        if plant is not None:
            places[plant] += next(iter(canaries[0].values))
        cells = search(canaries, places)
        told = [
            f"{cell.canary} in {cell.place}: {text}"
            for cell in cells
            if not cell.well
            for text in around(found.known.all[cell.canary], places[cell.place])
        ]
        return cells, told, {place: len(content) for place, content in places.items()}


def main() -> bool:
    """Measure, print, and tell whether no secret was found where it must not be."""
    parser = options("secrets", "Looks for a canary in every secret in all that the service leaves behind.")
    parser.add_argument("--plant", choices=PLACES, help="put one there, to see that it is found")
    cells, told, sizes = asyncio.run(measure(plant=parser.parse_args().plant))
    unexpected = [cell for cell in cells if not cell.well]
    show(report(cells))
    show(f"\nSearched: {', '.join(f'{place} {size:,} bytes' for place, size in sizes.items())}")
    show(f"{len(cells)} cells, {len(unexpected)} unexpected. {machine()}")
    for text in told:
        show(f"\n{text}")
    return not unexpected


if __name__ == "__main__":
    carry_out(main)
