"""A stand-in provider: speaks both providers' wire formats over HTTP, with genuine signatures and real small videos.

In reading order:

    behaviours.py   what it can do to its caller: one model name per behaviour
    jobs.py         what it accepted, sent and served: the ledger
    dialect.py      what a wire format has to answer
    openrouter.py   OpenRouter's wire format
    llmgateway.py   LLM Gateway's wire format; zod.py is its check of a create body, catalogue.py its list of models
    endpoints.py    submit, poll, download: the same for both
    downloads.py    an output's bytes, whole or spoilt
    connection.py   dropping a connection for real
    links.py        links that need no key
    callbacks.py    signed callbacks, on time and again
    app.py          all of it as one object
    server.py       on a socket
    videos/         what it serves
    demo.py         the demonstration: plays the service against it

    sandbox = Sandbox(clock=SystemClock(), chance=random.Random(), webhook_secret="...", client=client)
    async with serving(sandbox, port=8788) as base_url:
        await sandbox.run()
"""

from service.sandbox.app import Sandbox
from service.sandbox.behaviours import BEHAVIOURS, Behaviour
from service.sandbox.server import serving

__all__ = ["BEHAVIOURS", "Behaviour", "Sandbox", "serving"]
