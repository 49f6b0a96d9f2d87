from __future__ import annotations

import pytest

from service.web.notify import check_notify_url

ALLOWED = {"receiver.internal:8080", "127.0.0.1:9000", "[::1]:9000", "plain.internal:80", "[fd00::1]:443"}


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hooks",
        "https://example.com",
        "HTTPS://Example.COM:8443/a?token=b&c=%20#d",
        "https://8.8.8.8/hooks",
        "https://[2606:4700:4700::1111]/hooks",
        "https://xn--bcher-kva.example/hooks",
        "https://example.com./hooks",
        "https://localhost.example.com/hooks",
        "https://10.example.com/hooks",
        "https://example.com/" + "a" * 2028,
    ],
)
def test_a_receiver_on_the_public_internet_is_taken(url: str) -> None:
    check_notify_url(url, ())


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.internal:8080/hooks",
        "https://RECEIVER.internal:8080/hooks",
        "http://127.0.0.1:9000/hooks",
        "http://[::1]:9000/hooks",
        "https://[0:0:0:0:0:0:0:1]:9000/hooks",
        "http://plain.internal/hooks",
        "https://[fd00::1]/hooks",
    ],
)
def test_a_private_host_is_taken_when_the_operator_lists_it_with_its_port(url: str) -> None:
    check_notify_url(url, ALLOWED)
    if url.startswith("https://RECEIVER"):
        url = f"http{url[5:]}"  # a name is only judged when a delivery is sent, unless it is asked over plain http
    with pytest.raises(ValueError, match="REELKEEPER_ALLOWED_PRIVATE_HOSTS"):
        check_notify_url(url, ())


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/hooks",
        "https://127.0.0.1:9001/hooks",
        "https://127.0.0.1./hooks",
        "https://10.1.2.3/hooks",
        "https://192.168.0.1/hooks",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/hooks",
        "https://[::1]/hooks",
        "https://[::ffff:127.0.0.1]/hooks",
        "https://[fe80::1%25eth0]/hooks",
        "https://localhost/hooks",
        "https://a.localhost/hooks",
        "https://LOCALHOST./hooks",
        "https://127.1/hooks",
        "https://2130706433/hooks",
        "https://0x7f000001/hooks",
        "https://0x7f.1/hooks",
        "https://0x/hooks",
        "https://127.0.0.1%2e/hooks",
        "https://ex%61mple.com/hooks",
    ],
)
def test_an_address_that_is_not_public_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must have a host on the public internet"):
        check_notify_url(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hooks",
        "ftp://example.com/hooks",
        "https://",
        "https:///hooks",
        "https://./hooks",
        "https://exa mple.com/hooks",
        "https://example.com/hooks\n",
        "https://example.com/h\u00f6rer",
        "https://example.com:99999/hooks",
        "https://example.com:x/hooks",
        "https://example.com:0/hooks",
        "https://[::1/hooks",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be an https:// URL, for example https://example\.com/hooks/videos"):
        check_notify_url(url, ALLOWED)


@pytest.mark.parametrize("url", ["https://user:secret@example.com/", "https://user@example.com/", "https://@a.example"])
def test_a_user_name_or_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must hold no user name and no password") as error:
        check_notify_url(url, ())
    assert "secret@" not in str(error.value)


def test_plain_http_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with https://"):
        check_notify_url("http://example.com/hooks", ALLOWED)


def test_a_long_address_is_refused() -> None:
    with pytest.raises(ValueError, match="must have at most 2,048 characters"):
        check_notify_url("https://example.com/" + "a" * 2029, ())
