"""How a run looks while it goes on: lines, and on a terminal a moving last line or two."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from holdstill.cli.format import duration, size
from holdstill.cli.messages import INFO, WARNING, fields_of, say
from holdstill.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.live import Live

    from holdstill.jobs.reporter import Reporter
    from holdstill.restic.events import Status
    from holdstill.systemd.notify import Notifier


class Lines:
    """One line on standard error for each phase and each warning."""

    watched = False

    def __init__(self) -> None:
        """Begin with no run."""
        self._fields: dict[str, str] = {}

    def begin(self, job: str, run_id: str) -> None:
        """Say from now on which run a line is about, where that can be said beside it."""
        self._fields = fields_of(job, run_id)

    def phase(self, job: str, text: str) -> None:
        """Print the phase."""
        self._print(f"{job}: {text}")

    def progress(self, job: str, repository: str, status: Status) -> None:
        """Print nothing: a log wants facts."""

    def warn(self, job: str, text: str) -> None:
        """Print the warning."""
        self._print(f"{job}: warning: {text}", WARNING)

    def finish(self) -> None:
        """Do nothing: there is no display in the way."""

    def _print(self, text: str, priority: int = INFO) -> None:
        say(text, priority, self._fields)


class Service(Lines):
    """The same lines, and the latest of them in `systemctl status`."""

    def __init__(self, notifier: Notifier) -> None:
        """Tell systemd through `notifier`."""
        super().__init__()
        self._notifier = notifier

    def phase(self, job: str, text: str) -> None:
        """Print the phase, and show it."""
        super().phase(job, text)
        self._notifier.status(f"{job}: {text}")

    def progress(self, job: str, repository: str, status: Status) -> None:
        """Show how far restic is."""
        done, total = size(status.bytes_done), size(status.total_bytes)
        figures = f"{status.percent_done:.0%}, {done} of {total}"
        self._notifier.status(f"{job}: backing up to {repository}: {figures}")


class Terminal(Lines):
    """The same lines, with a display below them that rich draws."""

    watched = True

    def __init__(self, live: Live) -> None:
        """Draw through `live`, which refreshes only when told: a thread would not survive fork."""
        super().__init__()
        self._live = live

    def phase(self, job: str, text: str) -> None:
        """Print the phase; what was shown below is over."""
        self.finish()
        super().phase(job, text)

    def progress(self, job: str, repository: str, status: Status) -> None:
        """Redraw the display."""
        with self._whoever_looks():
            self._live.start()
            self._live.update(display(job, repository, status), refresh=True)

    def finish(self) -> None:
        """Take the display away until there is progress again."""
        with self._whoever_looks():
            self._live.stop()

    def _print(self, text: str, priority: int = INFO) -> None:
        from rich.text import Text

        style = "yellow" if priority == WARNING else ""
        with self._whoever_looks():
            self._live.console.print(Text(f"holdstill: {text}", style), soft_wrap=True)

    @contextmanager
    def _whoever_looks(self) -> Iterator[None]:
        """Draw; where the terminal has been closed, the run goes on or ends in silence."""
        try:
            yield
        except OSError:
            self._live.console.file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def display(job: str, repository: str, status: Status) -> RenderableType:
    """Return a line of figures and a line with the file that is being read."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    figures = [
        f"{status.files_done:,}/{status.total_files:,} files",
        f"{size(status.bytes_done)}/{size(status.total_bytes)}",
    ]
    if status.seconds_elapsed >= 1:
        figures.append(f"{size(status.bytes_done // round(status.seconds_elapsed))}/s")
    if status.seconds_remaining:
        figures.append(f"{duration(status.seconds_remaining)} left")
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=1.0, completed=status.percent_done)
    grid.add_row(f"{job} → {repository}", bar, f"{status.percent_done:4.0%}")
    current = shown(status.current_files[0]) if status.current_files else ""
    return Group(
        grid,
        Text("  " + "  ".join(figures), "dim", no_wrap=True, overflow="ellipsis"),
        Text("  " + current, "dim", no_wrap=True, overflow="ellipsis"),
    )


@contextmanager
def reporter(notifier: Notifier) -> Iterator[Reporter]:
    """Give the reporter that suits who listens: systemd, a log, or a terminal."""
    if notifier.is_heard:
        yield Service(notifier)
        return
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.live import Live

    # Standard output is for results, and may be a file: rich would print it all on the terminal.
    live = Live(
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    terminal = Terminal(live)
    try:
        yield terminal
    finally:
        terminal.finish()
