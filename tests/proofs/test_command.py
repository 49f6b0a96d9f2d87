"""A proof tells in its last line and its exit code what it found, and can be ended early like any command."""

from __future__ import annotations

import signal

import pytest

from tests.proofs.command import carry_out, options


@pytest.mark.parametrize(("kept", "code", "said"), [(True, 0, "Every promise was kept."), (False, 1, "A PROMISE")])
def test_the_last_line_and_the_exit_code_tell_the_verdict(
    *, kept: bool, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        carry_out(lambda: kept)
    assert ended.value.code == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_a_proof_early_has_it_put_away_what_it_made(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    put_away = []

    def proof() -> bool:
        try:
            signal.raise_signal(number)
        finally:
            put_away.append("everything")
        return True

    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)  # a loop may have left its own
    try:
        with pytest.raises(SystemExit) as ended:
            carry_out(proof)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert (ended.value.code, put_away) == (130, ["everything"])
    assert "Stopped before its end" in capsys.readouterr().out


def test_what_is_no_option_is_refused_before_anything_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("kills", "Kills.").parse_args(["--wrong"])
    assert "python -m tests.proofs.kills: error: unrecognized arguments: --wrong" in capsys.readouterr().err
