"""Our tokens equal those that AWS's SDK signs for the same moment."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import botocore.credentials
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from payments import aws_auth
from payments.aws_auth import Credentials, credentials, presigned

LONG_LIVED = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
OF_A_ROLE = Credentials("ASIAEXAMPLE", "s3cr3t/with+signs=", "IQoJb3JpZ2luX2VjE+x/y==")


def by_botocore(host: str, query: str, service: str, region: str, signer: Credentials) -> str:
    keys = botocore.credentials.Credentials(signer.access_key_id, signer.secret_access_key, signer.session_token)
    request = AWSRequest("GET", f"https://{host}/?{query}")
    SigV4QueryAuth(keys, service, region, expires=aws_auth.TOKEN_LIFETIME_S).add_auth(request)
    return str(request.url)


def moment_of(url: str) -> datetime:
    return datetime.strptime(parse_qs(urlsplit(url).query)["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("signer", [LONG_LIVED, OF_A_ROLE], ids=["long-lived", "of a role"])
@pytest.mark.parametrize("user", ["payments_service", "a b+c/é~"])
def test_a_database_token_equals_botocore_s(user: str, signer: Credentials) -> None:
    host = "proxy.proxy-0123.eu-central-1.rds.amazonaws.com:5432"
    query = {"Action": "connect", "DBUser": user}
    expected = by_botocore(host, urlencode(query), "rds-db", "eu-central-1", signer)
    assert f"https://{presigned(host, query, 'rds-db', 'eu-central-1', signer, moment_of(expected))}" == expected


@pytest.mark.parametrize("signer", [LONG_LIVED, OF_A_ROLE], ids=["long-lived", "of a role"])
def test_a_broker_token_equals_botocore_s(signer: Credentials) -> None:
    host = "kafka.us-east-1.amazonaws.com"
    expected = by_botocore(host, "Action=kafka-cluster%3AConnect", "kafka-cluster", "us-east-1", signer)
    query = {"Action": "kafka-cluster:Connect"}
    assert f"https://{presigned(host, query, 'kafka-cluster', 'us-east-1', signer, moment_of(expected))}" == expected


def test_a_database_token_is_what_boto3_generates(function_environment: None) -> None:
    import boto3

    # The default session keeps credentials that another test gave it.
    client = boto3.Session().client("rds")
    host = "cluster.cluster-0123.eu-west-1.rds.amazonaws.com"
    expected = client.generate_db_auth_token(host, 5432, "payments_service")
    signer, query = credentials(), {"Action": "connect", "DBUser": "payments_service"}
    ours = presigned(f"{host}:5432", query, "rds-db", "eu-west-1", signer, moment_of(f"https://{expected}"))
    assert ours == expected
    assert urlsplit(f"https://{aws_auth.rds_token(host, 5432, 'payments_service')}").netloc == f"{host}:5432"


def test_a_broker_token_is_unpadded_base64_of_a_url_of_the_region(function_environment: None) -> None:
    token = aws_auth.msk_token()
    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc, query["Action"]) == ("https", "kafka.eu-west-1.amazonaws.com", ["kafka-cluster:Connect"])
    assert query["X-Amz-Security-Token"] == [OF_A_ROLE.session_token]
    assert not token.endswith("=")


@pytest.fixture
def function_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OF_A_ROLE.session_token
    for name, value in {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": OF_A_ROLE.access_key_id,
        "AWS_SECRET_ACCESS_KEY": OF_A_ROLE.secret_access_key,
        "AWS_SESSION_TOKEN": OF_A_ROLE.session_token,
    }.items():
        monkeypatch.setenv(name, value)


class CredentialsEndpoint(http.server.BaseHTTPRequestHandler):
    """Lambda runs such an endpoint beside a function that was restored from a snapshot."""

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "sesame" and self.path == "/role?version=1"
        answer = {
            "AccessKeyId": "ASIARESTORED",
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": "2026-01-31T12:00:00Z",
        }
        body = json.dumps(answer if allowed else {"message": "no"}).encode()
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), CredentialsEndpoint) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/role?version=1"
        server.shutdown()
        thread.join()


@pytest.mark.server
def test_after_a_restore_credentials_are_asked_for(endpoint: str) -> None:
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "sesame",
        "AWS_ACCESS_KEY_ID": "of the snapshot",
    }
    assert credentials(environment) == Credentials("ASIARESTORED", "secret", "token")


@pytest.mark.server
def test_an_endpoint_that_is_away_is_an_error_of_the_network() -> None:
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/role",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "sesame",
    }
    with pytest.raises(OSError, match="refused"):
        credentials(environment)
