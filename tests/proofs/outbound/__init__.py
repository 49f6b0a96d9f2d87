"""What strangers' URLs and answers can do to the service that follows them: nothing.

    python -m tests.proofs.outbound [--short]

Every address of the table is tried with the service's own clients on real sockets. Nothing leaves this machine: a
connection that would is counted, and refused by the proof itself.
"""
