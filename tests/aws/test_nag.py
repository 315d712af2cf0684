"""deploy/nag.py, with a copy of the template that has weaknesses in it. `make audit` runs it with the template itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.aws.test_template import ROOT

pytestmark = pytest.mark.server

PROGRAMS = ROOT / ".venv-nag" / "bin"
WEAKNESSES = {
    '                aws:SecureTransport: "false"\n': '                aws:SecureTransport: "true"\n',
    "            Action: rds-db:connect\n": '            Action: "*"\n',
    "      StorageEncrypted: true\n": "      StorageEncrypted: false\n",
    "          - id: AwsSolutions-RDS11\n": "          - id: AwsSolutions-RDS99\n",
}
"""A line of the template, and what it becomes."""
TOLD = [
    "Database: AwsSolutions-RDS11: ",
    "Database: AwsSolutions-RDS2: ",
    "Database: AwsSolutions-RDS99 has a reason and no finding",
    "Database: PCI.DSS.321-RDSStorageEncrypted: ",
    "DatabasePolicy: AwsSolutions-IAM5[Action::*]: ",
    "FailedInvocations: AwsSolutions-SQS4: ",
]


def test_a_weakness_without_a_reason_is_found_and_so_is_a_reason_without_a_weakness(tmp_path: Path) -> None:
    if not PROGRAMS.exists():
        pytest.skip("cdk-nag is in .venv-nag, which `make audit` sets up")
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    for right, wrong in WEAKNESSES.items():
        assert right in text
        text = text.replace(right, wrong, 1)
    copy = tmp_path / "template.yaml"
    copy.write_text(text, encoding="utf-8")
    command = [str(PROGRAMS / "python"), "-m", "deploy.nag", str(copy)]
    environment = os.environ | {"JSII_NODE": str(PROGRAMS / "node")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = sorted(done.stderr.splitlines())
    assert (done.returncode, len(lines)) == (1, len(TOLD)), done.stderr
    assert [told for told, line in zip(TOLD, lines, strict=True) if not line.startswith(told)] == []
