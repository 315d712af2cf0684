from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import Payments

# When Tab is pressed, bash calls the function that `complete` names, with the words in an array.
PRESS_TAB = """
source <(payments completions bash)
complete -p payments >/dev/null || exit 1
COMP_WORDS=(payments "$@"); COMP_CWORD=$#
_payments_completion payments
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def with_program(payments_alone: Payments, tmp_path: Path) -> dict[str, str]:
    """An environment in which `payments` is a program, as after an installation."""
    program = tmp_path / "bin" / "payments"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m payments_cli "$@"\n')
    program.chmod(0o755)
    return payments_alone.environment | {"PATH": f"{program.parent}:{payments_alone.environment['PATH']}", "SHELL": "/bin/bash"}


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["re"], ["refund", "redrive"]),
        (["c"], ["capture", "compare", "completions"]),
        (["list", "--status", "PART"], ["PARTIALLY_REFUNDED"]),
        (["process", "order-1", "--method", "c"], ["credit_card"]),
        (["list", "--method", "p"], ["paypal"]),
        (["list", "--amount"], ["--amount-from", "--amount-to"]),
        (["show", "x", "--ref"], ["--refund"]),
        (
            ["tail", "--type", ""],
            [
                "requires_action",
                "authorized",
                "successful",
                "failed",
                "refunded",
                "voided",
                "capture_failed",
                "refund_failed",
                "void_failed",
                "disputed",
                "dispute_closed",
                "refused",
            ],
        ),
        (["refund", "--idem"], ["--idempotency-key"]),
        (["process", "--pay"], ["--payment-token"]),
        (["process", "--bear"], ["--bearer-token"]),
        (["process", "--tok"], []),
        (["webhooks", "r"], ["remove", "rotate", "redeliver"]),
        (["webhooks", "add", "https://shop.example.com", "--type", "ref"], ["refunded", "refund_failed"]),
        (["webhooks", "redeliver", "x", "--e"], ["--event"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bash_completes(with_program: dict[str, str], words: list[str], offered: list[str]) -> None:
    pressed = subprocess.run(
        ["bash", "-c", PRESS_TAB, "bash", *words], env=with_program, capture_output=True, text=True, timeout=60, check=False
    )
    assert (pressed.returncode, pressed.stdout.split(), pressed.stderr) == (0, offered, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(payments_alone: Payments, shell: str) -> None:
    done = payments_alone("completions", shell)
    assert done.exit_code == 0 and "payments" in done.out and "_PAYMENTS_COMPLETE" in done.out


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_completions_can_be_installed_for_good(with_program: dict[str, str], tmp_path: Path) -> None:
    command = ["bash", "-c", "payments --install-completion && source ~/.bashrc && complete -p payments"]
    done = subprocess.run(command, env=with_program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "_payments_completion payments" in done.stdout, done.stderr
