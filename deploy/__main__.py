"""`make deploy`: build for the architecture that is deployed, and deploy with all parameters that are given.

They are those of samconfig.toml and of the command line: `sam deploy --parameter-overrides` alone would forget the former.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from deploy.arguments import ROOT, ArgumentsError, read


def main(arguments: Sequence[str]) -> int:
    try:
        deployment = read(arguments)
    except ArgumentsError as error:
        print(error, file=sys.stderr)
        return 2
    architecture = deployment.parameter("Architecture")
    parameters = deployment.parameters | {"Architecture": architecture}
    build = ["make", "--no-print-directory", "build", f"ARCHITECTURE={architecture}"]
    # Without make's variables: ARCHITECTURE and ARGS of the outer make would replace those of this one.
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"}}
    # Without the quotes, SAM refuses an empty value.
    pairs = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in parameters.items()]
    deploy = [".venv-sam/bin/sam", "deploy", *deployment.options, "--parameter-overrides", *pairs]
    for command in (build, deploy):
        if failed := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            return failed
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
