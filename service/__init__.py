"""Reelkeeper: one call, one paid job, one kept video, one true answer; whatever crashes.

The map, in reading order. A job is always waiting for exactly one thing; its state names it; one file moves it on.
Imports go down the rows and never sideways between packages of one row.

Row 0, pure: the words and the rules.
    model.py         State, TRANSITIONS, VideoRequest, Job, Report, Output, Artifact, Delivery, Model
    errors.py        the exception tree, drawn at the top
    signing.py       HMAC schemes, both directions, over raw bytes
    containers.py    what a whole video looks like, chunk by chunk
    addresses.py     which addresses are public, and which hosts may be reached nevertheless
    backoff.py       when to try again; pace.py: how fast a provider may be asked
    clock.py ids.py  time and names, passed in
    observer.py      what can be seen of all this, by whoever counts or traces

Row 1: what touches the outside, and knows nothing of jobs.
    config/          environment -> Config; every mistake at once
    logs.py          one line per event, without secrets and signed URLs
    metrics.py       numbers for Prometheus; tracing.py: one trace per job for OpenTelemetry, an extra
    outbound/        HTTP to providers, and to strangers (public addresses only)
    vault.py         keys derived from the secret key, and what is sealed with them
    disk.py          what lasts on a disk; threads.py: what may hang; both below the others
    db/              the Database seam; sqlite.py; guard.py; backup.py; queries/ (every query, named); migrations/

Row 2: the domain on top of it.
    store/           one method per sentence of the domain, each one transaction
    providers/       one file per provider; __init__.py is the protocol
    storage/         object storage: any bucket or a directory, and what dead processes left there
    media/           what a stored video shows, found out by a process of its own

Row 3: what moves; siblings do not know each other.
    workers/         __init__.py is the only loop; submitter, poller, mirror, notifier, eraser, models, sweeper,
                     forgetter (both periodic); crew: which of them a service has
    web/             gate, which every request passes; three faces (jobs; openrouter and openai with their wire forms);
                     acting, what can be done with a job, for API and pages alike; content; status/, the pages of
                     operators; callbacks, and of those that are rejected: turnstile (the pace), diagnosis (why), tally
                     (kept), rejections (shown)
    sandbox/         a stand-in provider, and the demonstration

Row 4: what is run.
    records.py       what the database holds, opened
    assembly.py      builds every object and wires them; configured.py: what the settings turn on
    check.py         `reelkeeper check`
    stage.py         `reelkeeper sandbox` and `demo`: a sandbox, and a service that plays against it
    tables.py        rows of keys, jobs and callbacks, for people and for programs
    commands/        `reelkeeper jobs`, `keys`, `callbacks`, `receivers`, `check`, `backup`; desk.py is what they work
                     with: the database on this machine (local.py), or a running service over HTTP (remote.py);
                     serving.py runs `serve`, `sandbox` and `demo`, and alone loads the whole service
    __main__.py      the command line
"""
