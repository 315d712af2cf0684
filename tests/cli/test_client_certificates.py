"""The command line with a service that demands a client's certificate, as the API does with ApiTruststoreUri."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.certificates import Authority
from tests.cli.stand import Answer, Stand
from tests.cli.terminal import Payments

EMPTY: Answer = (200, {}, '{"data": [], "has_more": false, "next_cursor": null}')


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def demanding(standing_in: Callable[..., Stand], authority: Authority, tmp_path: Path) -> Stand:
    """A service that answers only who has a certificate of the authority."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(*authority.issue(tmp_path / "server", "127.0.0.1"))
    return standing_in(EMPTY, tls=tls)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> tuple[str, str]:
    certificate, key = authority.issue(tmp_path / "clerk", "clerk.shop.org", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    return str(certificate), str(key)


@pytest.fixture
def ask(payments_alone: Payments, demanding: Stand, authority: Authority) -> Callable[..., tuple[int, int, str]]:
    """`ask(*options)` lists the payments. It returns the exit code, how many requests arrived, and what was said."""

    def ask(*options: str, **environment: str) -> tuple[int, int, str]:
        done = payments_alone(
            "list",
            "--no-retry",
            "--url",
            demanding.url,
            *options,
            SSL_CERT_FILE=str(authority.file),
            COLUMNS="200",
            **environment,
        )
        return done.exit_code, len(demanding.asked), done.err

    return ask


def test_who_shows_a_certificate_is_answered(ask: Callable[..., tuple[int, int, str]], files: tuple[str, str]) -> None:
    certificate, key = files
    assert ask("--client-certificate", certificate, "--client-key", key)[:2] == (0, 1)
    assert ask(PAYMENTS_CLIENT_CERTIFICATE=certificate, PAYMENTS_CLIENT_KEY=key)[:2] == (0, 2)


def test_one_file_may_hold_the_certificate_and_its_key(
    ask: Callable[..., tuple[int, int, str]], files: tuple[str, str], tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(file).read_text() for file in files))
    assert ask("--client-certificate", str(both))[:2] == (0, 1)


def test_who_shows_none_or_a_stranger_s_is_not_answered(ask: Callable[..., tuple[int, int, str]], tmp_path: Path) -> None:
    exit_code, asked, said = ask()
    assert (exit_code, asked) == (5, 0)
    assert "certificate required" in said
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger")
    certificate, key = map(str, stranger.issue(tmp_path / "clerk", "clerk.shop.org", usage=ExtendedKeyUsageOID.CLIENT_AUTH))
    assert ask("--client-certificate", certificate, "--client-key", key)[:2] == (5, 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--client-certificate", "{key}", "--client-key", "{key}"], "client's certificate"),
        (["--client-certificate", "{certificate}"], "client's certificate"),
        (["--client-certificate", "nowhere.pem"], "does not exist"),
        (["--client-key", "{key}"], "--client-key needs --client-certificate"),
        (["--client-certificate", "{certificate}", "--client-key", "{key}", "--url", "http://shop.org"], "https://"),
    ],
    ids=["no certificate in it", "no key", "no file", "a key alone", "in clear text"],
)
def test_files_that_prove_nothing_are_a_wrong_command_line(
    ask: Callable[..., tuple[int, int, str]], files: tuple[str, str], options: list[str], told: str
) -> None:
    certificate, key = files
    exit_code, asked, said = ask(*(option.format(certificate=certificate, key=key) for option in options))
    assert (exit_code, asked, told in said) == (2, 0, True), said
