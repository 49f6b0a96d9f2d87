"""The store: one method per sentence of the domain, each one transaction.

`jobs` speaks for callers, callbacks and operators, `claims` for workers, `keys` for API keys; `transaction` is what
their sentences are made of.
"""

from service.store.claims import Claims
from service.store.jobs import Created, Idempotency, KeyReused, NewJob, Overview, Receipt, Store, Verdict
from service.store.keys import KeyStore
from service.store.transaction import Ledger, Timing

__all__ = [
    "Claims",
    "Created",
    "Idempotency",
    "KeyReused",
    "KeyStore",
    "Ledger",
    "NewJob",
    "Overview",
    "Receipt",
    "Store",
    "Timing",
    "Verdict",
]
