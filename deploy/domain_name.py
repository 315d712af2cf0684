"""What API Gateway asks of a domain name of one's own: an issued certificate in its region, and a file of authorities."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError


def certificate_problems(acm: Any, name: str, arn: str, region: str, asks_for_certificates: bool) -> Iterator[str]:
    """`asks_for_certificates`: whether the API asks its callers for one (mutual TLS)."""
    if arn.split(":")[3] != region:
        yield f"ApiCertificateArn={arn}: the certificate has to be in {region}"
        return
    try:
        found = acm.describe_certificate(CertificateArn=arn)["Certificate"]
    except acm.exceptions.ResourceNotFoundException:
        yield f"ApiCertificateArn={arn}: there is no such certificate"
        return
    names = {found["DomainName"], *found.get("SubjectAlternativeNames", [])}
    if found["Status"] != "ISSUED":
        yield f"ApiCertificateArn={arn}: the certificate is {found['Status']}"
    if not names & {name, "*." + name.partition(".")[2]}:
        yield f"ApiDomainName={name}: the certificate is for {', '.join(sorted(names))}"
    if asks_for_certificates and found["Type"] != "AMAZON_ISSUED":
        yield f"ApiCertificateArn={arn}: with ApiTruststoreUri, ACM itself must have issued it; this one is {found['Type']}"


def truststore_problems(s3: Any, uri: str, version: str) -> Iterator[str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        s3.head_object(Bucket=bucket, Key=key, **({"VersionId": version} if version else {}))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 404):
            raise
        yield f"ApiTruststoreUri={uri}: there is no such file{f' of version {version}' if version else ''}"


def owner_problems(apigateway: Any, cloudformation: Any, name: str, stack: str | None) -> Iterator[str]:
    """A name belongs to one stack of a region. A stack that is updated may own it already."""
    try:
        apigateway.get_domain_name(DomainName=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotFoundException":
            raise
        return
    try:
        found = cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId="Domain") if stack else {}
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        found = {}
    if found.get("StackResourceDetail", {}).get("PhysicalResourceId") != name:
        yield f"ApiDomainName={name}: another stack of this region has it; take it from that one first"
