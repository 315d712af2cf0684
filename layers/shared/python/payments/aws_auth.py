"""Logins on AWS: tokens for RDS and MSK, which we sign here, and passwords and keys from Secrets Manager.

A token is a presigned URL (Signature Version 4). Signing needs the standard library alone; importing boto3 would cost every cold
start 200 ms. Each connection gets a new token or reads the secret again, so neither is ever stale, and a rotation needs no
deployment.
"""

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

TOKEN_LIFETIME_S = 900
"""RDS and MSK take no longer one. A connection outlives the token that opened it; MSK requests a new one in time."""

CREDENTIALS_TIMEOUT_S = 2.0
"""The endpoint is on the same machine and answers in a millisecond."""

SECRETS_TIMEOUT_S = 2.0
"""Secrets Manager answers in tens of milliseconds. A caller waits, and boto3's default of 60 s would outlast the function."""

Password = Callable[[str, int, str], str]
"""Makes the password of a new connection from its host, port and user."""


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key_id: str
    secret_access_key: str
    session_token: str | None


def credentials(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Return the function's own credentials: from the environment, or under SnapStart, whose snapshot would outlive them, from
    an endpoint.

    Raises KeyError without credentials, OSError when the endpoint gives none.
    """
    endpoint = environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if endpoint is None:
        key_id, secret_key = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        return Credentials(key_id, secret_key, environment.get("AWS_SESSION_TOKEN"))
    url, token = urlsplit(endpoint), environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    import http.client  # and with it the parsers of e-mail, which a start without SnapStart does not pay

    try:
        with closing(http.client.HTTPConnection(str(url.hostname), url.port, timeout=CREDENTIALS_TIMEOUT_S)) as connection:
            connection.request("GET", url._replace(scheme="", netloc="").geturl(), headers={"Authorization": token})
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise ConnectionError(f"the credentials endpoint answered {response.status}")
            answer = json.load(response)
        return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"])
    except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        # An OSError is retried as for any server that is away. It does not quote the answer, which may hold half a secret.
        raise ConnectionError(f"the credentials endpoint gave no credentials: {type(error).__name__}") from None


def presigned(
    host: str, query: Mapping[str, str], service: str, region: str, signer: Credentials, at: datetime | None = None
) -> str:
    """Return `host/?query…`, signed for GET at the moment `at` (now) and valid for TOKEN_LIFETIME_S."""
    timestamp = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    signed = {**query, "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{signer.access_key_id}/{scope}"}
    signed |= {"X-Amz-Date": timestamp, "X-Amz-Expires": str(TOKEN_LIFETIME_S), "X-Amz-SignedHeaders": "host"}
    if signer.session_token:
        signed["X-Amz-Security-Token"] = signer.session_token
    sorted_query = urlencode(sorted(signed.items()), quote_via=quote, safe="-_.~")
    request = "\n".join(["GET", "/", sorted_query, f"host:{host}\n", "host", hashlib.sha256(b"").hexdigest()])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", timestamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + signer.secret_access_key.encode()
    for part in (*scope.split("/"), to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{host}/?{urlencode(signed, quote_via=quote, safe='-_.~')}&X-Amz-Signature={key.hex()}"


def rds_token(host: str, port: int, user: str) -> str:
    """Return an IAM token for RDS, Aurora or RDS Proxy. This function is a Password."""
    return presigned(f"{host}:{port}", {"Action": "connect", "DBUser": user}, "rds-db", os.environ["AWS_REGION"], credentials())


def msk_token() -> str:
    """Return an IAM token for MSK, as SASL/OAUTHBEARER carries it."""
    region = os.environ["AWS_REGION"]
    url = presigned(f"kafka.{region}.amazonaws.com", {"Action": "kafka-cluster:Connect"}, "kafka-cluster", region, credentials())
    return base64.urlsafe_b64encode(f"https://{url}&User-Agent=payments".encode()).decode().rstrip("=")


def secret(arn: str) -> dict[str, Any]:
    """Return the members of a secret, which is a JSON object. Raises OSError when Secrets Manager does not hand it over."""
    import boto3  # 200 ms, which only a deployment with passwords pays
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    patience = Config(connect_timeout=SECRETS_TIMEOUT_S, read_timeout=SECRETS_TIMEOUT_S, retries={"total_max_attempts": 2})
    client = boto3.client("secretsmanager", region_name=arn.split(":")[3], config=patience)
    try:
        return dict(json.loads(client.get_secret_value(SecretId=arn)["SecretString"]))
    except (BotoCoreError, ClientError, ValueError, KeyError, TypeError) as error:
        raise ConnectionError(f"Secrets Manager did not hand over the secret: {type(error).__name__}") from None


def password_by(auth: str) -> Password | None:
    """Return the login for DATABASE_AUTH: `iam`, the ARN of a secret, or `url` (None: the password is in the URL, if any)."""
    if auth == "iam":
        return rds_token
    return None if auth == "url" else lambda _host, _port, _user: secret(auth)["password"]
