"""Every parser that reads strangers' bytes, under inputs that nobody thought of.

    python -m tests.fuzz [TARGET ...] [--seconds N]

runs coverage-guided with atheris (`pip install -e '.[fuzz]'`); what it found once is in `found` and is a test. Without
atheris the same targets are tried with hypothesis in `test_targets`.
"""
