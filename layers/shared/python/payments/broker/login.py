"""How a client of the broker encrypts and logs in."""

from collections.abc import Callable
from typing import Any

from payments import aws_auth

Security = Callable[[], dict[str, Any]]
"""Makes the options with which one client encrypts and logs in."""


def security_by(auth: str) -> Security:
    """Return the login for KAFKA_AUTH: `iam`, the ARN of a secret with username and password, or `none` (plain text)."""
    if auth == "iam":
        return lambda: token_over_tls(aws_auth.msk_token)
    return dict if auth == "none" else lambda: _password_over_tls(aws_auth.secret(auth))


def token_over_tls(new_token: Callable[[], str]) -> dict[str, Any]:
    """Log in with a token. The client requests a new one for each connection, and again before it runs out."""
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # no type information
        def token(self) -> str:
            return new_token()

    return {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": TokenProvider()}


def _password_over_tls(secret: dict[str, str]) -> dict[str, Any]:
    login = {"sasl_plain_username": secret["username"], "sasl_plain_password": secret["password"]}
    return {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"} | login
