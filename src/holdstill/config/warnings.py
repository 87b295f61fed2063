"""What is suspicious about the files that a configuration names, by looking at them."""

from __future__ import annotations

import os
import stat

from holdstill.config.problems import key_text
from holdstill.errors import shown
from holdstill.linux import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdstill.config.model import Config, Notification, Repository


def warnings(config: Config) -> tuple[str, ...]:
    """Return a line for each secret that others can read and each named file that is not there.

    Calls stat only; what cannot be looked at is a warning too.
    """
    return tuple(_warnings(config))


def _warnings(config: Config) -> Iterator[str]:
    for name, repository in config.repositories.items():
        yield from _warnings_of_secrets(repository, "repositories", name)
    if config.metrics_directory:
        yield from _warnings_of("metrics-directory", config.metrics_directory, secret=False)
    for name, notification in config.notifications.items():
        yield from _warnings_of_secrets(notification, "notifications", name)
    for name, job in config.jobs.items():
        if job.run_as and users.find(job.run_as) is None:
            yield f"{key_text(('jobs', name, 'run-as'))}: there is no user {shown(job.run_as)}"
        for position, path in enumerate(job.exclude_files):
            place = key_text(("jobs", name, "exclude-files", position))
            yield from _warnings_of(place, path, secret=False)


def _warnings_of_secrets(table: Repository | Notification, kind: str, name: str) -> Iterator[str]:
    for key in ("password_file", "environment_file", "ping_url_file", "apprise_url_file"):
        if path := getattr(table, key, ""):
            place = key_text((kind, name, key.replace("_", "-")))
            yield from _warnings_of(place, path, secret=True)


def _warnings_of(place: str, path: str, *, secret: bool) -> Iterator[str]:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        yield f"{place}: {shown(path)}: {error.strerror}"
        return
    if secret and mode & stat.S_IROTH:
        yield f"{place}: {shown(path)} can be read by every user; run: chmod o= {shown(path)}"
