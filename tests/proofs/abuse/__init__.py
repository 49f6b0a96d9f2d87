"""The service under attack by strangers, who know where callbacks are received and perhaps an address of one.

    python -m tests.proofs.abuse [--short] [--rounds N]

Every probe that was measured on existing receivers (`theirs`) is measured here on a real process; then it is flooded.
"""
