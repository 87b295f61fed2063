"""What the outside learns of a run: metrics and notifications. Nothing of it fails a backup."""

from __future__ import annotations

import time
from contextlib import contextmanager

from holdstill.errors import HoldstillError, shown
from holdstill.records.json_text import text_of
from holdstill.records.past import PastRun, of_dead_run, past
from holdstill.records.record import Outcome, plain
from holdstill.snapshots.staging import sweep
from holdstill.snapshots.turn import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from holdstill.config.model import Config, Notification
    from holdstill.linux.signals import Signals
    from holdstill.records.metrics import Known
    from holdstill.records.notifications import Event, Messenger
    from holdstill.records.record import RunRecord

_STARTED = "started"


class Outside:
    """Tells of one run of a job; what cannot be told is said through `warn`."""

    def __init__(
        self, config: Config, job: str, warn: Callable[[str], None], signals: Signals
    ) -> None:
        """Begin with nothing told; no wait for another holdstill outlasts one of the signals."""
        self._config = config
        self._job = job
        self._warn = warn
        self._turn = Turn(signals, warn)
        self._messengers: dict[str, Messenger] = {}

    def begin(self, run_id: str, started: datetime) -> None:
        """Tell that a run has begun, which has its job's lock; waits for nobody."""
        with self._without_failing():
            self._publish(lambda known: known._replace(active_since=started))
            record = of_dead_run(self._job, run_id, started)
            self._tell_start(PastRun(run_id, self._job, started, None, record))

    def publish(self, record: RunRecord, devices: Iterable[str]) -> None:
        """Publish the metrics of a run that has ended and still has its job's lock.

        Its file systems are on these devices.
        """
        with self._without_failing():
            if record.outcome is not Outcome.SKIPPED:
                self._publish(lambda known: self._after(known, record, devices))

    def tell(self, record: RunRecord) -> None:
        """Tell of a run that has ended, and wait some seconds at most until all know."""
        with self._without_failing():
            self._tell_end(record)
            self._collect_complaints()

    @contextmanager
    def _without_failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a bug here is no reason to have no backup
            import traceback

            traceback.print_exc()
            self._warn(f"unexpected error ({type(error).__name__}), see the traceback: report it")

    def _tell_start(self, run: PastRun) -> None:
        for name, notification in self._notifications():
            if _STARTED in notification.events:
                death = _event(run, Outcome.INTERRUPTED)
                is_wanted = Outcome.INTERRUPTED in notification.events
                self._start(name, notification, _event(run, _STARTED), death if is_wanted else None)

    def _tell_end(self, record: RunRecord) -> None:
        happened = {record.outcome, *(["warned"] if record.warnings else [])}
        for name, notification in self._notifications():
            is_wanted = not notification.events.isdisjoint(happened)
            if is_wanted and name not in self._messengers:
                self._start(name, notification, None, None)
            if name in self._messengers:
                event = _event(_ended(record), record.outcome) if is_wanted else None
                self._messengers[name].finish(event)

    def _notifications(self) -> Iterator[tuple[str, Notification]]:
        names = self._config.jobs[self._job].notify
        return ((name, self._config.notifications[name]) for name in names)

    def _start(
        self, name: str, notification: Notification, first: Event | None, death: Event | None
    ) -> None:
        from holdstill.records.notifications import Channel, Messenger

        channel = Channel(
            notification.ping_url,
            notification.ping_url_file,
            notification.command,
            notification.apprise_url_file,
        )
        try:
            self._messengers[name] = Messenger(channel, first, death)
        except OSError as error:
            self._warn(f"notification {name}: {error.strerror}")

    def _collect_complaints(self) -> None:
        if self._messengers:
            from holdstill.records.notifications import SECONDS

            deadline = time.monotonic() + SECONDS
            for name, messenger in self._messengers.items():
                if complaint := messenger.complaint(deadline):
                    self._warn(f"notification {name}: {complaint}")

    def _publish(self, change: Callable[[Known], Known]) -> None:
        """Write what was known before, changed by what is known now."""
        directory = self._config.metrics_directory
        if not directory:
            return
        from holdstill.records import metrics, textfile

        known = change(self._before())
        try:
            name = f"holdstill_{self._job}.prom"
            textfile.publish(directory, name, metrics.text(self._job, known))
        except OSError as error:
            self._warn(f"metrics cannot be written to {shown(directory)}: {error.strerror}")

    def _before(self) -> Known:
        """Return what is known of the job's earlier runs."""
        from holdstill.records.metrics import Known

        configured = self._config.jobs[self._job].repositories
        try:
            with past(self._config.state_directory) as runs:
                last, successes = runs.last_ended(self._job), runs.last_ok(self._job, 1)
                good = runs.good_backups(self._job)
        except HoldstillError as error:
            self._warn(error.message)
            return Known()
        return Known(
            last=last,
            last_ok=successes[0].finished if successes else None,
            good_backups={name: at for name, at in good.items() if name in configured},
        )

    def _after(self, known: Known, record: RunRecord, devices: Iterable[str]) -> Known:
        is_ok = record.outcome is Outcome.OK
        good = {one.name: record.finished for one in record.repositories if one.is_good}
        return known._replace(
            last=_ended(record),
            last_ok=record.finished if is_ok else known.last_ok,
            good_backups={**known.good_backups, **good},
            leftovers=self._leftovers(devices),
        )

    def _leftovers(self, devices: Iterable[str]) -> int | None:
        snapshots: list[object] = []
        for device in devices:
            try:
                sweep(
                    device,
                    lambda one: snapshots.extend(one.snapshots),
                    remove=False,
                    turn=self._turn,
                )
            except HoldstillError as error:
                self._warn(error.message)
                return None
        return len(snapshots)


def _ended(record: RunRecord) -> PastRun:
    return PastRun(record.run_id, record.job, record.started, record.outcome, plain(record))


def _event(run: PastRun, name: str) -> Event:
    from holdstill.records import excerpt
    from holdstill.records.notifications import Event

    title = f"{run.job}: started" if name == _STARTED else excerpt.title(run)
    text = title if name == _STARTED else excerpt.excerpt(run)
    record = text_of({**run.record, "outcome": name})
    return Event(name, run.job, run.run_id, title, text, record)
