"""How the command line ends when its output, its environment or the answer is not what it expects.

Exit code 1 says that the service refused. Who reads it after a refund that was made sends the refund again.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cases import case
from tests.cli.stand import DROPPED, PAYMENT, REFUND, REFUNDED, Answer, Stand, problem
from tests.cli.terminal import COMMAND, Payments

Standing = Callable[..., Stand]

REFUND_IT = ("refund", "txn_1", "--no-retry")
FOUND: Answer = (200, {}, json.dumps(PAYMENT | {"transaction_id": "txn_1"}))
PAGE: Answer = (200, {}, json.dumps({"data": [PAYMENT] * 100, "has_more": True, "next_cursor": "c"}))


@pytest.fixture
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb", buffering=0) as file:
        yield file.fileno()


@pytest.fixture
def without_reader() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "latin-1"])
def test_a_terminal_that_lacks_characters_shows_escapes(payments_alone: Payments, standing_in: Standing, encoding: str) -> None:
    done = payments_alone.shell("payments refund txn_1", PAYMENTS_URL=standing_in(REFUNDED).url, PYTHONIOENCODING=encoding)
    assert (done.exit_code, "Traceback" in done.err) == (0, False), done.err
    assert "SUCCEEDED" in done.out and "za\\u017c" in done.out


@pytest.mark.parametrize("form", ["", "--json"], ids=["panel", "JSON"])
@pytest.mark.parametrize("output", [">&-", "</dev/null 1<&0", ">/dev/full", "| true; exit ${PIPESTATUS[0]}"])
def test_a_refund_that_was_made_is_done_whatever_becomes_of_the_output(
    payments_alone: Payments, standing_in: Standing, output: str, form: str
) -> None:
    stand = standing_in(REFUNDED)
    done = payments_alone.shell(f"payments refund txn_1 {form} {output}", PAYMENTS_URL=stand.url)
    assert (done.exit_code, len(stand.asked), "Traceback" in done.err) == (0, 1, False), done.err
    assert "The command was carried out" in done.err and f"payments show {REFUND['payment_id']}" in done.err
    assert REFUND["refund_id"] in (done.problem["refund_id"] if form else done.err)


ANSWERS: dict[str, tuple[Answer, int]] = {
    "done": (REFUNDED, 0),
    "not known yet": ((202, {}, json.dumps(REFUND | {"status": "PENDING"})), 4),
    "declined": (problem(402, "refund_declined"), 3),
    "refused": (problem(409, "payment_state_conflict"), 1),
    "still running": (problem(409, "idempotency_key_in_use"), 4),
    "unavailable": (problem(503, "service_unavailable"), 5),
    "a proxy that gave up": ((408, {}, "Request Timeout"), 5),
    "refused in another form": ((422, {}, '{"title": {"a": 1}, "detail": null, "code": [1], "errors": [1]}'), 1),
    "declined in another form": ((402, {}, '{"title": "no", "detail": "no", "code": "x", "errors": null}'), 3),
    "done, members are missing": ((201, {}, '{"status": "SUCCEEDED"}'), 0),
    "not known, members are missing": ((202, {}, "{}"), 4),
    "done, members of other types": ((201, {}, '{"amount": NaN, "currency": 7, "created_at": 5, "amount_refunded": {}}'), 0),
    "done, odd values": ((201, {}, json.dumps(REFUND | {"currency": "BGN", "created_at": "0001-01-01T00:00:00Z"})), 0),
    "done, odd texts": ((201, {}, json.dumps(REFUND | {"reason": "\ud800", "created_at": "soon"})), 0),
    "refused, with depth": ((422, {}, f'{{"title": "t", "detail": "d", "code": "c", "x": {"[" * 900}{"]" * 900}}}'), 1),
    "done, with depth": ((201, {}, f'{{"refund_id": {"[" * 900}{"]" * 900}}}'), 0),
    "too deep": ((201, {}, "[" * 100_000), 5),
    "not in the encoding that it names": ((201, {"content-encoding": "gzip"}, json.dumps(REFUND)), 5),
    "a redirect to nowhere": ((302, {"location": "http://[::"}, ""), 5),
    "a pause without end": ((503, {"retry-after": "9" * 5000}, ""), 5),
}


@pytest.mark.parametrize(("answer", "exit_code"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer_alone_decides_the_exit_code(
    payments_alone: Payments, standing_in: Standing, full_disk: int, without_reader: int, answer: Answer, exit_code: int
) -> None:
    url = standing_in(answer).url
    for form in ([], ["--json"]):
        command = (*REFUND_IT, *form, "--url", url, "--idempotency-key", "k")
        assert payments_alone(*command).exit_code == exit_code
        for out_fd, err_fd in ((full_disk, None), (None, full_disk), (full_disk, full_disk), (without_reader, without_reader)):
            with case(form, out_fd, err_fd):
                assert payments_alone.into(*command, out_fd=out_fd, err_fd=err_fd).exit_code == exit_code


def test_an_answer_that_does_not_fit_the_panel_is_shown_as_it_is(payments_alone: Payments, standing_in: Standing) -> None:
    shown = payments_alone(*REFUND_IT, "--url", standing_in((201, {}, '{"refund_id": "r-1", "amount": NaN}')).url)
    assert (shown.exit_code, shown.json) == (0, {"refund_id": "r-1", "amount": None})


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["panel", "JSON"])
def test_ctrl_c_while_the_answer_is_printed_leaves_the_refund_done(
    payments_alone: Payments, standing_in: Standing, form: list[str]
) -> None:
    stand = standing_in((201, {}, json.dumps(REFUND | {"reason": "word " * 40_000})))  # more than a pipe holds
    process = payments_alone.start(*REFUND_IT, *form, "--url", stand.url)
    assert process.stdout and process.stderr
    process.stdout.read(1)  # now it prints, and waits for us to read on
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    told = process.stderr.read()
    process.communicate()
    assert f"payments show {REFUND['payment_id']}" in told and "Traceback" not in told


INTERRUPTS = """
import os, signal, sys

left, seen = {times}, set()

ours = tuple(f"payments_cli/{{name}}.py" for name in ("run", "commands", "session", "dialogue", "streams", "errors"))

def is_ours(frame):
    return frame.f_code.co_filename.endswith(ours)

def at_a_line(frame, event, _):
    if not is_ours(frame):
        return None
    course = getattr(sys.modules.get("payments_cli.errors"), "course", None)
    is_new = (frame.f_code, frame.f_lineno) not in seen
    if event == "line" and is_new and course and (course.answered is not None or course.failed):
        seen.add((frame.f_code, frame.f_lineno))
        if child := os.fork():
            end = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os.write(9, b"%d %d\\n" % (frame.f_lineno, end))
        else:
            sys.settrace(None)
            sys.setprofile(at_a_call)
            interrupt()
    return at_a_line

def at_a_call(frame, event, _):  # Python forgets a function for lines or calls that has raised an error
    if left and is_ours(frame):
        interrupt()

def interrupt():
    global left
    left -= 1
    os.kill(os.getpid(), signal.SIGINT)

class Last:  # is deleted when Python ends, after its own handlers
    def __del__(self, kill=os.kill, pid=os.getpid):
        kill(pid(), 2)

last = Last()
sys.settrace(at_a_line)
"""


@pytest.mark.parametrize(
    ("name", "times"),
    [("done", 1), ("done", 2), ("done", 3), ("refused", 1), ("declined", 3), ("not known yet", 1), ("unavailable", 2)],
)
def test_ctrl_c_at_any_moment_after_the_answer_leaves_the_exit_code(
    payments_alone: Payments,
    broken: Callable[[str], dict[str, str]],
    standing_in: Standing,
    tmp_path: Path,
    name: str,
    times: int,
) -> None:
    """At each line that follows the answer, a copy of the process gets Ctrl-C, once or several times."""
    answer, exit_code = ANSWERS[name]
    environment = broken(INTERRUPTS.format(times=times))
    done = payments_alone.shell(
        f"payments {shlex.join(REFUND_IT)} 9>{tmp_path}/report", PAYMENTS_URL=standing_in(answer).url, **environment
    )
    ends = [tuple(map(int, line.split())) for line in (tmp_path / "report").read_text().splitlines()]
    assert done.exit_code == exit_code, done.err
    assert len(ends) > 10 and [end for end in ends if end[1] != exit_code] == []
    assert "Traceback" not in done.err and "Exception ignored" not in done.err


@pytest.mark.parametrize("setting", ["COLUMNS", "TERMINAL_WIDTH", "LINES"])
def test_a_width_that_is_none_is_no_width(payments_alone: Payments, standing_in: Standing, setting: str) -> None:
    url = standing_in(REFUNDED).url
    for value in ("0", "1", "²", "-5", "", "99999999999", "wide"):
        with case(setting, value):
            done = payments_alone(*REFUND_IT, "--url", url, **{setting: value})
            assert (done.exit_code, REFUND["payment_id"] in done.out) == (0, True), done.out


def test_a_terminal_without_a_width_shows_the_refund(payments_alone: Payments, standing_in: Standing) -> None:
    done = payments_alone.at_terminal(*REFUND_IT, "--yes", "--url", standing_in(REFUNDED).url, COLUMNS="")
    assert (done.exit_code, REFUND["payment_id"] in done.out) == (0, True)


@pytest.mark.parametrize("zone", ["Nowhere/Nothing", ":Nowhere/Nothing", "XXX-99:99:99", "AAA25:00:00", "../../etc/passwd"])
def test_in_a_zone_that_does_not_exist_times_are_utc(payments_alone: Payments, standing_in: Standing, zone: str) -> None:
    done = payments_alone(*REFUND_IT, "--url", standing_in(REFUNDED).url, TZ=zone)
    assert (done.exit_code, "2026-01-31 12:00:00 UTC" in done.out) == (0, True), done.out


@pytest.mark.parametrize("arguments", [["--help"], ["pay"], ["show", "x", "--url", "http://127.0.0.1:1", "--no-retry"]])
def test_who_wants_no_colour_gets_no_escape_sequence(payments_alone: Payments, arguments: list[str]) -> None:
    assert "\x1b" not in payments_alone.at_terminal(*arguments, NO_COLOR="1").out


def test_a_text_cannot_rewrite_the_terminal(payments_alone: Payments, standing_in: Standing) -> None:
    evil = "\x1b[2J\r\n\x9b1A\u202eDSU 5\u2066\u200f\x7f"
    url = standing_in((201, {}, json.dumps(REFUND | {"reason": evil}))).url
    shown = payments_alone(*REFUND_IT, "--url", url)
    assert "\\x1b[2J\\r\\n\\x9b1A\\u202eDSU 5\\u2066\\u200f\\x7f" in shown.out
    assert payments_alone(*REFUND_IT, "--json", "--url", url).json["reason"] == evil
    refused = payments_alone(
        *REFUND_IT, "--url", standing_in((409, {}, json.dumps({"title": evil, "detail": evil, "code": evil}))).url
    )
    family = standing_in(
        (201, {}, json.dumps(REFUND | {"reason": "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f467 a\xa0b"}))
    ).url
    assert "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f467 a\xa0b" in payments_alone(*REFUND_IT, "--url", family).out
    assert not set(evil) & set(shown.out + refused.err) - set("\n[2J1A DSU5"), "only our own line ends"


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full", ">&- 2>&-", "2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}"])
def test_a_command_whose_key_nobody_can_see_is_not_sent(payments_alone: Payments, standing_in: Standing, stream: str) -> None:
    stand = standing_in(REFUNDED)
    done = payments_alone.shell(f"payments refund txn_1 {stream}", PAYMENTS_URL=stand.url)
    assert (done.exit_code, stand.asked) == (7, [])
    known = payments_alone.shell(f"payments refund txn_1 --idempotency-key k {stream}", PAYMENTS_URL=stand.url)
    assert (known.exit_code, len(stand.asked)) == (0, 1)


@pytest.mark.parametrize("command", [["list", "--all"], ["list", "--all", "--json"], ["show", "order-1", "--json"], ["--help"]])
def test_output_that_is_incomplete_never_looks_complete(
    payments_alone: Payments, standing_in: Standing, full_disk: int, without_reader: int, command: list[str]
) -> None:
    history: Answer = (200, {}, '{"data": []}')
    where = (
        [] if command == ["--help"] else ["--url", standing_in(*([PAGE] if command[0] == "list" else [FOUND, history] * 2)).url]
    )
    full = payments_alone.into(*command, *where, out_fd=full_disk)
    assert (full.exit_code, "No space left on device" in full.err) == (7, True), full.err
    if "--json" in command:
        assert (full.problem["code"], len(full.err.splitlines())) == ("output_failed", 1)
    gone = payments_alone.into(*command, *where, out_fd=without_reader)
    assert (gone.exit_code, gone.err) == (141, "")


def test_a_list_into_a_closed_output_is_an_error(payments_alone: Payments, standing_in: Standing) -> None:
    done = payments_alone.shell("payments list >&-", PAYMENTS_URL=standing_in(PAGE).url)
    assert (done.exit_code, "Bad file descriptor" in done.err) == (7, True), done.err


@pytest.fixture
def broken(tmp_path: Path, payments_alone: Payments) -> Callable[[str], dict[str, str]]:
    """Return an environment in which this code runs when Python starts."""

    def breaking(code: str) -> dict[str, str]:
        (tmp_path / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": f"{tmp_path}:{payments_alone.environment['PYTHONPATH']}"}

    return breaking


FAILS = """
import httpx2
def fails(*_, **__): raise {error}
httpx2.{name} = fails
"""


@pytest.mark.parametrize(
    "error", ["LookupError('tok_s3cret')", "OSError(32, 'tok_s3cret')", "SystemExit('tok_s3cret')", "httpx2.StreamClosed()"]
)
def test_an_unforeseen_error_has_a_code_of_its_own(
    payments_alone: Payments, broken: Callable[[str], dict[str, str]], error: str
) -> None:
    name = error.partition("(")[0].removeprefix("httpx2.").replace("OSError", "BrokenPipeError")
    environment = broken(FAILS.format(name="Client.request", error=error))
    sent = payments_alone.shell("payments refund txn_1 --idempotency-key k1", **environment)
    assert (sent.exit_code, f"Unforeseen error: {name}" in sent.err) == (6, True), sent.err
    assert "Repeat the command with --idempotency-key k1" in " ".join(sent.err.split())
    looked = payments_alone.shell("payments show order-1 --json", **environment)
    assert (looked.exit_code, looked.problem["code"], len(looked.err.splitlines())) == (6, "unforeseen_error", 1)
    assert "No money was moved" in looked.problem["detail"]
    for secret in ("s3cret", "Traceback"):
        assert secret not in sent.err + looked.err


@pytest.mark.parametrize("library", ["typer", "rich", "httpx2", "payments_cli.commands", "payments_cli.output"])
def test_a_library_that_cannot_be_imported_is_an_unforeseen_error(
    payments_alone: Payments, broken: Callable[[str], dict[str, str]], library: str
) -> None:
    done = payments_alone.shell("payments refund txn_1", **broken(f"import sys; sys.modules[{library!r}] = None"))
    assert (done.exit_code, "No money was moved" in done.err, "Traceback" in done.err) == (6, True, False), done.err


@pytest.mark.parametrize(
    ("code", "exit_code"), [(401, 4), (403, 4), (404, 4), ("forbidden", 4), ("payment_state_conflict", 1), ("refund_declined", 3)]
)
def test_a_refusal_of_a_later_try_says_nothing_of_the_first(
    payments_alone: Payments, standing_in: Standing, code: int | str, exit_code: int
) -> None:
    then = (code, {}, '{"message": "no"}') if isinstance(code, int) else problem({3: 402}.get(exit_code, 403), code)
    done = payments_alone("refund", "txn_1", "--idempotency-key", "k1", "--url", standing_in(DROPPED, then).url)
    assert (done.exit_code, "--idempotency-key k1: it takes effect at most once" in done.err) == (exit_code, exit_code == 4), (
        done.err
    )
    if isinstance(code, int):
        alone = payments_alone("refund", "txn_1", "--url", standing_in(then).url)
        looked = payments_alone("show", "x", "--url", standing_in(DROPPED, then).url)
        assert (alone.exit_code, looked.exit_code) == (1, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"HTTPS_PROXY": "nonsense://me:s3cret@x"},
        {"ALL_PROXY": "socks5://me:s3cret@x:1"},
        {"HTTPS_PROXY": "http://me:s3cret@[::1"},
        {"PAYMENTS_URL": "https://a..example.com"},
        {"PAYMENTS_URL": "https://" + "a" * 300},
        {"PAYMENTS_URL": "https://x\x01y"},
        {"PAYMENTS_URL": "https://☃"},
    ],
    ids=lambda settings: "".join(settings.values())[:30],
)
def test_an_environment_that_cannot_work_is_told_before_anything_is_sent(
    payments_alone: Payments, settings: dict[str, str]
) -> None:
    done = payments_alone(*REFUND_IT, **{"PAYMENTS_URL": "https://payments.example.com", **settings})
    assert (done.exit_code, "s3cret" in done.err, "Idempotency key" in done.err) == (2, False, False), done.err


@pytest.mark.parametrize(
    "facts", [b'{"url": 5, "kafka_bootstrap_servers": 5}', b"\xff", b"[]", b"[" * 100_000, b'{"url": "ht!tp"}']
)
def test_facts_of_a_run_that_are_none_are_no_facts(payments_alone: Payments, facts: bytes) -> None:
    (Path(payments_alone.environment["DATA_DIR"]) / "run.json").write_bytes(facts)
    assert payments_alone("show", "x", "--no-retry").exit_code == (2 if b"ht!tp" in facts else 5)
    assert payments_alone("tail").exit_code == 2


@pytest.mark.parametrize("config", [b"a = '\xff'", b"x = " + b"[" * 5000, b"x = {"], ids=["no text", "too deep", "cut off"])
def test_a_file_that_is_no_toml_is_told(payments_alone: Payments, tmp_path: Path, config: bytes) -> None:
    file = tmp_path / "kafka.toml"
    file.write_bytes(config)
    assert payments_alone("tail", "--bootstrap-servers", "127.0.0.1:1", "--kafka-config", str(file)).exit_code == 2


@pytest.mark.parametrize(
    "line",
    ["payments show $'\\xff'", "payments refund txn_1 --reason $'\\xff'", "payments list --from 999999d"],
)
def test_an_argument_that_cannot_be_sent_is_told(payments_alone: Payments, line: str) -> None:
    done = payments_alone.shell(line)
    assert (done.exit_code, "Traceback" in done.err) == (2, False), done.err


@pytest.mark.parametrize(
    ("typed", "exit_code"),
    [("n\n", 1), ("\n", 1), ("\x04", 1), ("\x03", 130), ("maybe\n", 1), ("y\n", 0), ("YES\n", 0)],
    ids=["no", "nothing", "end", "Ctrl-C", "maybe", "yes", "YES"],
)
def test_only_a_yes_at_the_terminal_moves_money(
    payments_alone: Payments, standing_in: Standing, typed: str, exit_code: int
) -> None:
    stand = standing_in(FOUND, REFUNDED)
    done = payments_alone.at_terminal("refund", "txn_1", "--url", stand.url, typed=typed)
    assert (done.exit_code, len(stand.asked)) == (exit_code, 1 if exit_code else 2), done.out


def test_a_question_that_nobody_can_read_is_answered_by_nobody(payments_alone: Payments, standing_in: Standing) -> None:
    stand = standing_in(FOUND, REFUNDED)
    line = f"exec {shlex.join(COMMAND)} refund txn_1 --idempotency-key k 2>/dev/full"
    done = payments_alone.at_terminal(line, program=["bash", "-c"], typed="y\n", PAYMENTS_URL=stand.url)
    assert (done.exit_code, len(stand.asked)) == (7, 1)


def test_an_amount_in_a_currency_that_is_no_longer_listed_is_given_in_minor_units(
    payments_alone: Payments, standing_in: Standing
) -> None:
    old: Answer = (200, {}, json.dumps(PAYMENT | {"transaction_id": "txn_1", "currency": "BGN"}))
    stand = standing_in(old, old, REFUNDED)
    done = payments_alone("refund", "order-1", "5.00", "--url", stand.url)
    assert (done.exit_code, "--amount-minor" in done.err, len(stand.asked)) == (2, True, 1), done.err
    assert payments_alone("refund", "order-1", "--amount-minor", "500", "--url", stand.url).exit_code == 0


def test_what_is_available_is_an_amount_that_a_person_can_read(payments_alone: Payments, standing_in: Standing) -> None:
    status, _, text = problem(422, "amount_too_large")
    done = payments_alone(
        *REFUND_IT, "--url", standing_in((status, {}, json.dumps(json.loads(text) | {"amount_available": 1499}))).url
    )
    assert "1499 in the currency's minor unit" in done.err


def test_help_lists_every_exit_code(payments_alone: Payments) -> None:
    from payments_cli.errors import Exit

    said = payments_alone("--help").out
    assert [code for code in Exit if f"  {code:3}  " not in said] == []
