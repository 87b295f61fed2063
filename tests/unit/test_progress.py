"""How progress looks on a terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.live import Live

from holdstill.cli.progress import Lines, Terminal, display
from holdstill.restic.events import Status

STATUS = Status(
    percent_done=0.25,
    total_files=2000,
    files_done=500,
    total_bytes=4 << 20,
    bytes_done=1 << 20,
    seconds_elapsed=2,
    seconds_remaining=6,
    current_files=("/srv/new\nline",),
)


def _console(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def _printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_shows_what_is_known() -> None:
    """Job, repository, share, files, bytes, rate, what remains, and the file being read."""
    console = _console()
    console.print(display("home", "nas", STATUS))
    text = _printed(console)
    for word in ("home → nas", "25%", "500/2,000 files", "1.0 MiB/4.0 MiB", "512.0 KiB/s"):
        assert word in text
    assert "6.0 s left" in text
    assert "$'/srv/new\\x0aline'" in text


def test_shows_nothing_that_is_not_known() -> None:
    """Neither a rate nor a time at the beginning."""
    console = _console()
    console.print(display("home", "nas", Status()))
    assert "/s" not in _printed(console)
    assert "left" not in _printed(console)


def test_a_narrow_terminal_gets_no_wrapped_lines() -> None:
    """Three lines, whatever the width and the file's name."""
    console = _console(width=30)
    console.print(display("home", "nas", Status(current_files=("/srv/" + "x" * 200,))))
    assert len(_printed(console).splitlines()) == 3


def test_the_display_is_gone_when_results_follow() -> None:
    """What is printed after `finish` is never drawn over."""
    console = _console()
    live = Live(console=console, auto_refresh=False, transient=True)
    terminal = Terminal(live)
    terminal.phase("home", "backing up to nas")
    terminal.progress("home", "nas", STATUS)
    drawn = live.is_started
    terminal.finish()
    assert (drawn, live.is_started) == (True, False)
    assert "holdstill: home: backing up to nas" in _printed(console)


def test_only_a_terminal_is_worth_progress() -> None:
    """Restic reports rarely where nobody looks: each report costs time."""
    assert not Lines.watched
    assert Terminal.watched
