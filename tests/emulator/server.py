"""LocalStack with moto beside it. `python -m tests.emulator.server` in .venv-emulator; deployment.py sets the environment."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from localstack.runtime.main import main
from moto.server import ThreadedMotoServer

from tests.emulator import engine

if __name__ == "__main__":
    engine.install()
    ThreadedMotoServer("127.0.0.1", urlsplit(os.environ["MOTO_ENDPOINT"]).port, verbose=False).start()
    main()
