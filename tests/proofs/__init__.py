"""Proofs of what the README promises: each is a command that anybody can run, and its short form is a test.

    python -m tests.proofs.NAME

A proof attacks a real process from outside, on loopback, and prints a table of what it found; it exits with 1 when a
promise was broken, and then tells the seed and all that is known of the jobs concerned.
"""
