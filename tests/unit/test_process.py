"""Starting processes: bounded output, signals passed on, and an end in every case."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from holdstill.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    HoldstillError,
    ViewError,
)
from holdstill.linux.signals import Signals
from holdstill.process import LONGEST_LINE, Child, capture, run

WAIT = "for _ in $(seq 600); do sleep 0.05; done"
"""For a signal; not for ever, should the tests die."""


def ignore(_: bytes) -> None:
    """Take a line and forget it."""


def lines_of(script: str) -> list[bytes]:
    """Return the lines that a shell script prints."""
    found: list[bytes] = []
    assert run(["sh", "-c", script], Child(on_stdout=found.append)).status == 0
    return found


def test_lines_come_without_their_newlines() -> None:
    """Empty ones count, and so does a last one without a newline."""
    assert lines_of(r"printf 'one\n\ntwo\r\nlast'") == [b"one", b"", b"two\r", b"last"]


def test_no_output_is_no_line() -> None:
    """Not even an empty one."""
    assert lines_of("true") == []


def test_a_line_comes_when_it_is_complete_not_when_the_process_ends() -> None:
    """Progress is shown while it happens."""
    times: list[float] = []
    run(["sh", "-c", "echo a; sleep 0.3; echo b"], Child(on_stdout=lambda _: times.append(now())))
    assert times[1] - times[0] > 0.2


def now() -> float:
    """Return a moment in seconds."""
    return time.monotonic()


def test_an_endless_line_is_cut() -> None:
    """No output can fill the memory: the beginning is kept, and the next line is whole."""
    script = f"head -c {3 * LONGEST_LINE} /dev/zero | tr '\\0' x; echo; echo next"
    first, second = lines_of(script)
    assert first == b"x" * LONGEST_LINE
    assert second == b"next"


def test_a_line_as_long_as_the_limit_is_whole() -> None:
    """The limit itself still fits."""
    (line,) = lines_of(f"head -c {LONGEST_LINE} /dev/zero | tr '\\0' x; echo")
    assert len(line) == LONGEST_LINE


def test_a_hundred_thousand_lines_are_quick() -> None:
    """A restic that complains of every file does not stop the run."""
    count = 0

    def on_line(line: bytes) -> None:
        nonlocal count
        count += line.startswith(b"error ")

    began = time.process_time()  # however busy the machine is
    run(["sh", "-c", "yes 'error number something' | head -n 100000 >&2"], Child(on_stderr=on_line))
    assert count == 100_000
    assert time.process_time() - began < 5


def test_both_outputs_are_read_at_once() -> None:
    """Neither pipe can fill up and stop the process."""
    out: list[int] = []
    err: list[int] = []
    script = "head -c 500000 /dev/zero >&2; head -c 500000 /dev/zero; head -c 500000 /dev/zero >&2"
    child = Child(on_stdout=lambda x: out.append(len(x)), on_stderr=lambda x: err.append(len(x)))
    assert run(["sh", "-c", script], child).status == 0
    assert (sum(out), sum(err)) == (500_000, 1_000_000)


def test_a_process_whose_output_is_read_has_no_input() -> None:
    """A program that asks for a password ends instead of waiting for ever."""
    assert lines_of("cat; echo end") == [b"end"]


def test_the_environment_can_be_given() -> None:
    """Then nothing else is in it."""
    done = capture(["/usr/bin/env"], {"ONLY": "this"})
    assert done.stdout == b"ONLY=this"


def test_capture_returns_both_outputs_and_the_status() -> None:
    """For short answers."""
    done = capture(["sh", "-c", "echo a; echo b; echo c >&2; exit 3"])
    assert (done.stdout, done.stderr, done.ended.status) == (b"a\nb", b"c", 3)


def test_a_signal_that_killed_it_is_told() -> None:
    """As its number and as a shell's status."""
    ended = run(["sh", "-c", "kill -9 $$"], Child())
    assert (ended.status, ended.signal, ended.told) == (137, 9, None)


def test_a_callback_that_raises_kills_the_process() -> None:
    """Its error comes through at once, and nobody is left running."""
    pids: list[int] = []

    def on_line(line: bytes) -> None:
        pids.append(int(line))
        raise RuntimeError(line)

    began = now()
    with pytest.raises(RuntimeError):
        run(["sh", "-c", "echo $$; exec sleep 60"], Child(on_stdout=on_line))
    assert now() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_grandchild_that_keeps_the_pipe_does_not_hold_us() -> None:
    """The process itself has ended: what it has written is read, and that is all."""
    (pid,) = lines_of("sleep 600 & echo $!")
    os.kill(int(pid), signal.SIGKILL)  # it is still there


def test_a_grandchild_that_never_stops_writing_does_not_hold_us() -> None:
    """Only what is in the pipe at the end is read."""
    assert run(["sh", "-c", "yes & exit 5"], Child(on_stdout=ignore)).status == 5


def test_a_missing_command_has_the_shells_status() -> None:
    """127, and 126 for one that cannot be executed."""
    with pytest.raises(CommandNotFoundError, match="'no such': command not found") as missing:
        run(["no such"], Child())
    assert missing.value.exit_status == 127
    with pytest.raises(CommandNotExecutableError, match="/etc/passwd: cannot be executed") as other:
        run(["/etc/passwd"], Child())
    assert other.value.exit_status == 126


def test_what_fails_before_exec_is_a_view_error_with_its_remedy() -> None:
    """The child's own words arrive, and the command is not started."""

    def fail() -> None:
        message = "could not"
        raise HoldstillError(message, remedy="do this")

    with pytest.raises(ViewError, match=r"^could not$") as caught:
        run(["sh", "-c", "echo started"], Child(before_exec=fail, on_stdout=unexpected))
    assert caught.value.remedy == "do this"


def test_a_defect_before_exec_shows_its_traceback() -> None:
    """An unexpected error is not dressed up."""
    with pytest.raises(ViewError, match=r"(?s)Traceback.*ZeroDivisionError") as caught:
        run(["true"], Child(before_exec=_divide_by_zero))
    assert caught.value.remedy == ""


def _divide_by_zero() -> None:
    _ = 1 // 0


def unexpected(line: bytes) -> None:
    """Fail: the command must not have been started."""
    raise AssertionError(line)


def test_descriptors_are_inherited_only_where_named() -> None:
    """All others are closed, marked for it or not."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        out: list[bytes] = []
        child = Child(on_stdout=out.append, keep_open=[writer])
        run(["sh", "-c", "cd /proc/self/fd; echo *"], child)
    finally:
        os.close(reader)
        os.close(writer)
    numbers = {int(word) for word in out[0].split()}
    assert writer in numbers
    assert reader not in numbers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_and_told(number: signal.Signals) -> None:
    """The process decides how it ends."""
    script = f"trap 'echo got; exit 9' {int(number)}; echo ready; {WAIT}"
    with Signals() as signals:
        lines: list[bytes] = []

        def on_line(line: bytes) -> None:
            lines.append(line)
            if line == b"ready":
                _send(number)

        ended = run(["sh", "-c", script], Child(on_stdout=on_line, signals=signals))
    assert lines == [b"ready", b"got"]
    assert (ended.status, ended.told) == (9, number)


def test_grace_ends_with_a_kill() -> None:
    """A process that will not end is not waited for beyond it."""
    began = now()
    with Signals() as signals:
        child = Child(on_stdout=_terminate_us, signals=signals, grace=0.3)
        ended = run(["sh", "-c", f"trap '' TERM; echo ready; {WAIT}"], child)
    assert (ended.signal, ended.told) == (signal.SIGKILL, signal.SIGTERM)
    assert 0.25 < now() - began < 5


def test_a_process_that_ends_within_its_grace_is_not_killed() -> None:
    """Its own status counts."""
    with Signals() as signals:
        child = Child(on_stdout=_terminate_us, signals=signals, grace=20)
        ended = run(["sh", "-c", f"trap 'exit 4' TERM; echo ready; {WAIT}"], child)
    assert (ended.status, ended.signal) == (4, None)


def _terminate_us(_: bytes) -> None:
    _send(signal.SIGTERM)


def _send(number: signal.Signals) -> None:
    """Send a signal to this thread alone: the tests' runner may have others, which block none."""
    signal.pthread_kill(threading.get_ident(), number)


def test_processes_can_be_run_from_threads() -> None:
    """Two at once do not hold each other's pipes open."""
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(capture(["echo", "x"]).stdout))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results == [b"x"] * 8


def test_memory_stays_small_whatever_is_printed() -> None:
    """A hundred megabytes pass through within a few of our own."""
    program = (
        "import resource, sys\n"
        "from holdstill.process import Child, run\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "run(['head', '-c', '100000000', '/dev/zero'], Child(on_stdout=lambda line: None))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    kibibytes = int(capture([sys.executable, "-c", program]).stdout)
    assert kibibytes < 10_000
