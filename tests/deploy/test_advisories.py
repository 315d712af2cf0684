"""The part of `make audit` that asks OSV about the Maven packages, with OSV's answers as they were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.advisories import POMS, packages_of, vulnerabilities

ROOT = Path(__file__).resolve().parents[2]
LOG4J, SLF4J = "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "pkg:maven/org.slf4j/slf4j-api@1.7.36"
NONE = "{}"
SOME = """{"vulns": [{"id": "GHSA-7rjr-3q55-vv33", "modified": "2024-06-25T02:34:31.270453Z"},
                     {"id": "GHSA-jfh8-c2jp-5v3q", "modified": "2025-02-07T18:17:13.441934Z"}]}"""


def answer(*results: str) -> bytes:
    return f'{{"results": [{", ".join(results)}]}}'.encode()


def test_each_package_has_the_vulnerabilities_of_its_own_result() -> None:
    asked: list[bytes] = []

    def ask(question: bytes) -> bytes:
        asked.append(question)
        return answer(NONE, SOME)

    assert vulnerabilities([SLF4J, LOG4J], ask) == {LOG4J: ["GHSA-7rjr-3q55-vv33", "GHSA-jfh8-c2jp-5v3q"]}
    assert json.loads(asked[0]) == {"queries": [{"package": {"purl": SLF4J}}, {"package": {"purl": LOG4J}}]}


@pytest.mark.parametrize(
    "told", [b"", b"<html>", b"{}", answer(), answer(NONE), answer(NONE, NONE, NONE), answer(NONE, '{"next_page_token": "x"}')]
)
def test_an_answer_that_does_not_tell_of_every_package_is_an_error(told: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        vulnerabilities([SLF4J, LOG4J], lambda _: told)


def test_a_list_without_packages_is_an_error() -> None:
    with pytest.raises(ValueError, match="no package"):
        vulnerabilities([], lambda _: answer())


def test_what_a_package_brings_along_is_asked_for() -> None:
    leaf = {"groupId": "org.slf4j", "artifactId": "slf4j-api", "version": "1.7.36"}
    tree = {"groupId": "payments", "children": [{**leaf, "artifactId": "slf4j-nop", "children": [leaf]}]}
    assert list(packages_of(tree)) == ["pkg:maven/org.slf4j/slf4j-nop@1.7.36", SLF4J]


def test_every_maven_project_is_read() -> None:
    folders = (ROOT / "contract", ROOT / "tests", ROOT / "docs", ROOT / "bench")
    assert sorted(pom for folder in folders for pom in folder.rglob("pom.xml")) == POMS
