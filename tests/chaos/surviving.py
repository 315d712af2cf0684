from __future__ import annotations

import asyncio

from chaos.run import Options, Outcome, run
from chaos.summary import lines


def survived(options: Options) -> Outcome:
    """Run, and fail with the summary when there is a violation. The evidence is kept then."""
    reported: list[str] = []
    outcome = asyncio.run(run(options, reported.append))
    assert not outcome.violations, "\n".join(reported[:1] + lines(outcome))
    return outcome
