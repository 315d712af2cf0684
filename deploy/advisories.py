"""Ask OSV for known vulnerabilities of the Maven packages of `contract/`, with all that they bring along. Part of `make audit`.

Maven has no lock and no audit of its own. OSV-Scanner asks the same service, but needs a newer Go than the clients do.
OSV says the same of a package without vulnerabilities and of one that it does not know. Anything but an answer for each fails.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

POMS = sorted(Path(__file__).resolve().parents[1].glob("contract/*/java/pom.xml"))
TREE = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:tree"
OSV = "https://api.osv.dev/v1/querybatch"  # https://google.github.io/osv.dev/post-v1-querybatch/
TIMEOUT_S = 30


def main() -> int:
    packages = sorted({package for pom in POMS for package in packages_of(tree_of(pom))})
    found = vulnerabilities(packages, ask_osv)
    for package, ids in found.items():
        print(f"{package}: {', '.join(ids)}", file=sys.stderr)
    print(f"{len(packages)} Maven packages, of which {len(found)} have known vulnerabilities.", file=sys.stderr)
    return bool(found)


def tree_of(pom: Path) -> Any:
    """Return the packages of the project as Maven resolves them, as a tree."""
    with tempfile.NamedTemporaryFile() as file:
        output = ("-DoutputType=json", f"-DoutputFile={file.name}")
        subprocess.run(
            ["mvn", "-B", "-q", "-Dstyle.color=never", "--strict-checksums", f"--file={pom}", TREE, *output], check=True
        )
        return json.load(file)


def packages_of(tree: Any) -> Iterator[str]:
    """Yield the package URLs of what the project depends on."""
    for child in tree.get("children", []):
        yield f"pkg:maven/{child['groupId']}/{child['artifactId']}@{child['version']}"
        yield from packages_of(child)


def vulnerabilities(packages: Sequence[str], ask: Callable[[bytes], bytes]) -> dict[str, list[str]]:
    """Return the ids of the vulnerabilities of each package that has some.

    Raises when the answer is not one result for each package, or there is nothing to ask for.
    """
    if not packages:
        raise ValueError("no package was asked for")
    answer = json.loads(ask(json.dumps({"queries": [{"package": {"purl": package}} for package in packages]}).encode()))
    results = zip(packages, answer["results"], strict=True)
    return {package: [each["id"] for each in result["vulns"]] for package, result in results if result}


def ask_osv(question: bytes) -> bytes:
    with urlopen(Request(OSV, question, {"Content-Type": "application/json"}), timeout=TIMEOUT_S) as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    sys.exit(main())
