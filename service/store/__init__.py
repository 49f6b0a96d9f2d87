"""The store: one method per sentence of the domain, each one transaction.

`jobs` speaks for callers, callbacks and operators (`accepting` is how a call becomes a job, once), `claims` for
workers, `deliveries` for what callers are owed, `catalogue` for models, `erasures` for files of deleted jobs, `keys`
for API keys, `backups` for copies of the database, `eras` for the secret keys, `receipts` for genuine callbacks,
`rejections` for those that were not believed, `sessions` for who is signed in; `finding` lists jobs, and `statistics`
tells how everything goes; `transaction` is what their sentences are made of.
"""

from service.store.accepting import (
    Call,
    Created,
    Creation,
    Hindrance,
    Idempotency,
    JobDeleted,
    KeyReused,
    NewJob,
    NotRetriable,
    OutOfCredits,
    RateLimited,
    retriable,
)
from service.store.backups import Backups, Restoration
from service.store.catalogue import Catalogue
from service.store.claims import Claims
from service.store.deliveries import Deliveries, FailingReceiver, Redelivery
from service.store.eras import Eras
from service.store.erasures import Erasure, Erasures
from service.store.finding import Found, Wanted
from service.store.inputs import taken_out
from service.store.jobs import Store
from service.store.keys import KeyStore
from service.store.receipts import KeptReceipt, Receipt, Verdict
from service.store.rejections import Mark, Reason, Rejection, Rejections
from service.store.sessions import SESSION_MS, Sessions
from service.store.statistics import QUARTERS, Kept, Overview, Spend, Statistics, Stored, Waiting
from service.store.transaction import Ledger, Timing, receiver_of

__all__ = [
    "QUARTERS",
    "SESSION_MS",
    "Backups",
    "Call",
    "Catalogue",
    "Claims",
    "Created",
    "Creation",
    "Deliveries",
    "Eras",
    "Erasure",
    "Erasures",
    "FailingReceiver",
    "Found",
    "Hindrance",
    "Idempotency",
    "JobDeleted",
    "Kept",
    "KeptReceipt",
    "KeyReused",
    "KeyStore",
    "Ledger",
    "Mark",
    "NewJob",
    "NotRetriable",
    "OutOfCredits",
    "Overview",
    "RateLimited",
    "Reason",
    "Receipt",
    "Redelivery",
    "Rejection",
    "Rejections",
    "Restoration",
    "Sessions",
    "Spend",
    "Statistics",
    "Store",
    "Stored",
    "Timing",
    "Verdict",
    "Waiting",
    "Wanted",
    "receiver_of",
    "retriable",
    "taken_out",
]
