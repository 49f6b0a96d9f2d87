"""Signatures: genuine ones are recognised, and everything else is one documented error."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import signing
from service.errors import BadSignatureError

NOW = 1_795_248_512_000
KEY = b"whsec_of_a_workspace"
OTHER = b"another secret"
BODY = '{"type":"video.generation.completed","data":{"id":"job-1"},"é":"\u2028"}'.encode()
VECTORS = json.loads((Path(__file__).parent / "data" / "llmgateway.json").read_text(encoding="utf-8"))


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def verify_vector(vector: dict[str, Any]) -> None:
    headers = {
        "webhook-id": vector["webhook_id"],
        "webhook-timestamp": vector["webhook_timestamp"],
        "webhook-signature": vector["webhook_signature"],
    }
    key = signing.key_of(vector["secret"])
    now = int(vector["webhook_timestamp"]) * 1000
    signing.verify_standard([key], headers, base64.b64decode(vector["body_b64"]), now)


def openrouter(header: str | None, *, keys: tuple[bytes, ...] = (KEY,), body: bytes = BODY, now: int = NOW) -> None:
    signing.verify_openrouter(keys, header, body, now)


def standard(changes: dict[str, str | None] | None = None, *, body: bytes = BODY, now: int = NOW) -> None:
    headers = {**signing.sign_standard(KEY, "evt_1", BODY, NOW), **(changes or {})}
    signing.verify_standard([KEY], {name: value for name, value in headers.items() if value is not None}, body, now)


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=named)
def test_a_captured_delivery_is_genuine(vector: dict[str, Any]) -> None:
    verify_vector(vector)


@pytest.mark.parametrize("vector", VECTORS["reject"], ids=named)
def test_a_tampered_delivery_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadSignatureError):
        verify_vector(vector)


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=named)
def test_we_sign_as_the_captured_sender_did(vector: dict[str, Any]) -> None:
    body = base64.b64decode(vector["body_b64"])
    now = int(vector["webhook_timestamp"]) * 1000 + 999
    headers = signing.sign_standard(signing.key_of(vector["secret"]), vector["webhook_id"], body, now)
    assert headers["webhook-signature"] == vector["webhook_signature"]
    assert headers["webhook-timestamp"] == vector["webhook_timestamp"]


def test_we_sign_as_openrouters_guide_says() -> None:
    body = (
        b'{"type":"video.generation.completed","created_at":"2026-04-24T12:00:00.000Z",'
        b'"data":{"id":"abc123","status":"completed"}}'
    )
    header = signing.sign_openrouter(b"dev_secret", body, 1_777_032_000_000)
    assert header == "t=1777032000,v1=74f19df2f2ef9c9025387ca026600090bbe48f764021628fb813ba0b7c1798ec"
    signing.verify_openrouter([b"dev_secret"], header, body, 1_777_032_000_000)


@pytest.mark.parametrize("off_s", [-300, -1, 0, 1, 300])
def test_a_clock_up_to_five_minutes_off_is_accepted(off_s: int) -> None:
    openrouter(signing.sign_openrouter(KEY, BODY, NOW), now=NOW + off_s * 1000)
    standard(now=NOW + off_s * 1000)


@pytest.mark.parametrize("off_ms", [-86_400_000, -300_001, 300_001, 86_400_000])
def test_an_old_message_and_one_from_the_future_are_refused_with_the_seconds(off_ms: int) -> None:
    header = signing.sign_openrouter(KEY, BODY, NOW)
    with pytest.raises(BadSignatureError, match=rf"{abs(off_ms) // 1000} s"):
        openrouter(header, now=NOW + off_ms)
    with pytest.raises(BadSignatureError, match="behind our clock" if off_ms > 0 else "ahead of our clock"):
        standard(now=NOW + off_ms)


def test_any_of_several_secrets_and_any_of_several_signatures_may_match() -> None:
    wrong, right = signing.sign_openrouter(OTHER, BODY, NOW), signing.sign_openrouter(KEY, BODY, NOW)
    openrouter(right, keys=(OTHER, KEY))
    openrouter(f"{wrong},{right.split(',')[1]},v0=abc, v2=def,flag")
    headers = signing.sign_standard(OTHER, "evt_1", BODY, NOW)
    genuine = signing.sign_standard(KEY, "evt_1", BODY, NOW)["webhook-signature"]
    standard({"webhook-signature": f"v1a,xyz v1 {headers['webhook-signature']} {genuine}"})
    signing.verify_standard([OTHER, KEY], signing.sign_standard(KEY, "evt_1", BODY, NOW), BODY, NOW)


def test_another_secret_another_body_and_no_secret_at_all_are_refused() -> None:
    header = signing.sign_openrouter(KEY, BODY, NOW)
    for keys, body in (((OTHER,), BODY), ((KEY,), BODY + b" "), ((), BODY)):
        with pytest.raises(BadSignatureError, match="matches none"):
            openrouter(header, keys=keys, body=body)
    with pytest.raises(BadSignatureError, match="matches none"):
        signing.verify_standard([], signing.sign_standard(KEY, "evt_1", BODY, NOW), BODY, NOW)


def test_the_other_schemes_separators_are_refused() -> None:
    stamp = str(NOW // 1000)
    for message in (f"{stamp}.".encode() + BODY, BODY):
        mac = signing._mac(KEY, message).hex()
        with pytest.raises(BadSignatureError, match="matches none"):
            openrouter(f"t={stamp},v1={mac}")


@pytest.mark.parametrize(
    "stamp",
    [
        *("", "abc", "1e9", "1e400", "nan", "0x6b", "-1", "+1795248512", "1795_248512", "1795248512.0"),
        *(" 1795248512", "1795248512 ", "1795248512\n", "9" * 13, "9" * 5000, "\u0661\u0667\u0669", "²"),
    ],
)
def test_a_timestamp_is_ascii_digits_and_nothing_else(stamp: str) -> None:
    signature = signing.sign_openrouter(KEY, BODY, NOW).split("=")[-1]
    with pytest.raises(BadSignatureError):
        openrouter(f"t={stamp},v1={signature}")
    with pytest.raises(BadSignatureError):
        standard({"webhook-timestamp": stamp})


def test_the_timestamp_is_signed_as_it_was_written() -> None:
    stamp = f"00{NOW // 1000}"
    mac = signing._mac(KEY, stamp.encode() + b"," + BODY).hex()
    openrouter(f"t={stamp},v1={mac}")
    with pytest.raises(BadSignatureError, match="matches none"):
        openrouter(f"t=00{NOW // 1000},v1={signing.sign_openrouter(KEY, BODY, NOW).split('=')[-1]}")


@pytest.mark.parametrize("change", ["", "0", "prefix", "longer", "upper", "space", "junk"])
def test_a_signature_in_any_other_spelling_is_refused(change: str) -> None:
    def changed(text: str) -> str:
        return {
            "prefix": text[:16],
            "longer": text + "0",
            "upper": text.upper(),
            "space": f"{text[:8]} {text[8:]}",
            "junk": text + "!!!!",
        }.get(change, change)

    header = signing.sign_openrouter(KEY, BODY, NOW)
    start, signature = header[: header.rindex("=") + 1], header[header.rindex("=") + 1 :]
    with pytest.raises(BadSignatureError):
        openrouter(start + changed(signature))
    signature = signing.sign_standard(KEY, "evt_1", BODY, NOW)["webhook-signature"].removeprefix("v1,")
    with pytest.raises(BadSignatureError):
        standard({"webhook-signature": f"v1,{changed(signature)}"})
    with pytest.raises(BadSignatureError):
        standard({"webhook-signature": f"v1,{signature.rstrip('=')}"})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    with pytest.raises(BadSignatureError, match=f"{name} is missing"):
        standard({name: None})
    with pytest.raises(BadSignatureError, match="x-openrouter-signature is missing"):
        openrouter(None)


def test_headers_are_bounded_before_they_are_split() -> None:
    genuine = signing.sign_openrouter(KEY, BODY, NOW)
    openrouter(genuine + ",v1=0" * 30)
    with pytest.raises(BadSignatureError, match="more than 32 parts"):
        openrouter(genuine + ",v1=0" * 31)
    with pytest.raises(BadSignatureError, match="longer than 8192"):
        openrouter(genuine + "," + "x" * 8192)
    signature = signing.sign_standard(KEY, "evt_1", BODY, NOW)["webhook-signature"]
    standard({"webhook-signature": signature + " v1,0" * 31})
    with pytest.raises(BadSignatureError, match="more than 32 parts"):
        standard({"webhook-signature": signature + " v1,0" * 32})
    with pytest.raises(BadSignatureError, match="longer than 8192"):
        standard({"webhook-id": "e" * 8193})


def test_the_right_signature_under_another_version_is_refused() -> None:
    with pytest.raises(BadSignatureError, match="no v1 signature"):
        openrouter(signing.sign_openrouter(KEY, BODY, NOW).replace("v1=", "v0="))
    signature = signing.sign_standard(KEY, "evt_1", BODY, NOW)["webhook-signature"]
    with pytest.raises(BadSignatureError, match="no v1 signature"):
        standard({"webhook-signature": signature.replace("v1,", "v1a,")})


def test_two_timestamps_are_refused() -> None:
    with pytest.raises(BadSignatureError, match="it holds 2"):
        openrouter(f"t=1,{signing.sign_openrouter(KEY, BODY, NOW)}")
    with pytest.raises(BadSignatureError, match="it holds 0"):
        openrouter("v1=abc")


def test_only_the_first_equals_sign_separates() -> None:
    with pytest.raises(BadSignatureError, match="not a whole number"):
        openrouter(f"t=={NOW // 1000},v1=abc")


def test_an_id_cannot_borrow_from_the_timestamp() -> None:
    # "evt.1" + "." + "2" and "evt" + "." + "1.2" would be the same signed text.
    with pytest.raises(BadSignatureError, match="webhook-id"):
        standard({"webhook-id": "evt.1"})
    with pytest.raises(ValueError, match="message id"):
        signing.sign_standard(KEY, "evt.1", BODY, NOW)


def test_an_empty_secret_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="empty"):
        signing.key_of("")
    with pytest.raises(ValueError, match="empty"):
        signing.sign_openrouter(b"", BODY, NOW)
    with pytest.raises(ValueError, match="empty"):
        signing.sign_standard(b"", "evt_1", BODY, NOW)


def test_an_error_never_tells_the_right_signature() -> None:
    right = signing.sign_openrouter(KEY, BODY, NOW)
    with pytest.raises(BadSignatureError) as caught:
        openrouter(right[:-1] + ("0" if right[-1] != "0" else "1"))
    assert right.split("v1=")[1][:16] not in str(caught.value)
    assert KEY.decode() not in str(caught.value)


@given(body=st.binary(min_size=1, max_size=200), data=st.data())
def test_a_body_with_one_bit_changed_is_refused(body: bytes, data: st.DataObject) -> None:
    header = signing.sign_openrouter(KEY, body, NOW)
    headers = signing.sign_standard(KEY, "evt_1", body, NOW)
    signing.verify_openrouter([KEY], header, body, NOW)
    signing.verify_standard([KEY], headers, body, NOW)
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignatureError):
        signing.verify_openrouter([KEY], header, bytes(changed), NOW)
    with pytest.raises(BadSignatureError):
        signing.verify_standard([KEY], headers, bytes(changed), NOW)


@given(body=st.binary(max_size=50), position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_signature_with_one_bit_changed_is_refused(body: bytes, position: int, bit: int) -> None:
    def changed(signature: str) -> str:
        raw = bytearray(signature.encode())
        raw[position % len(raw)] ^= 1 << bit
        return raw.decode("latin-1")

    header = signing.sign_openrouter(KEY, body, NOW)
    start, signature = header[: header.rindex("=") + 1], header[header.rindex("=") + 1 :]
    with pytest.raises(BadSignatureError):
        signing.verify_openrouter([KEY], start + changed(signature), body, NOW)
    headers = signing.sign_standard(KEY, "evt_1", body, NOW)
    signature = headers["webhook-signature"].removeprefix("v1,")
    with pytest.raises(BadSignatureError):
        signing.verify_standard([KEY], {**headers, "webhook-signature": f"v1,{changed(signature)}"}, body, NOW)


NEARLY = st.lists(
    st.sampled_from(
        ["t=", "v1=", "v1,", ",", " ", "=", ".", "evt_1", str(NOW // 1000), "0" * 64, "é", "\x00", "\ud800"]
    )
    | st.text(max_size=5),
    max_size=40,
).map("".join)


@given(header=NEARLY | st.text())
def test_no_header_text_of_openrouters_raises_anything_else(header: str) -> None:
    with pytest.raises(BadSignatureError):
        openrouter(header)


@given(message_id=NEARLY | st.just("evt_1"), stamp=NEARLY | st.just(str(NOW // 1000)), signature=NEARLY)
def test_no_standard_header_text_raises_anything_else(message_id: str, stamp: str, signature: str) -> None:
    headers = {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signature}
    with pytest.raises(BadSignatureError):
        signing.verify_standard([KEY], headers, BODY, NOW)
