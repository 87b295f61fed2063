"""What the configuration says of metrics and notifications."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from holdstill.config.load import parse
from holdstill.config.show import as_json, as_toml
from holdstill.config.warnings import warnings
from holdstill.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from holdstill.config.model import Config

JOB = """\
[repositories.nas]
url = "/srv/restic"
password-file = "/dev/null"
[jobs.home]
paths = ["/home"]
repositories = ["nas"]
notify = ["phone"]
[notifications.phone]
"""
URL = "https://hc-ping.com/secret"


def read(lines: str) -> Config:
    """Return a configuration whose notification has these keys."""
    return parse((JOB + lines).encode(), "/etc/x.toml", {})


def complaints(text: str) -> list[str]:
    """Return what is wrong with a configuration."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text.encode(), "/etc/x.toml", {})
    assert "secret" not in caught.value.message
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_a_ping_is_told_of_all_and_others_of_what_is_wrong() -> None:
    """Unless they say what they want to hear of."""
    ping = read(f'ping-url = "{URL}"').notifications["phone"]
    assert ping.events == {"started", "ok", "warned", "partial", "failed", "interrupted"}
    command = read('command = ["tell"]').notifications["phone"]
    assert command.events == {"warned", "partial", "failed", "interrupted"}
    assert read('command = ["tell"]\non = ["ok"]').notifications["phone"].events == {"ok"}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (
            "",
            (
                "notifications.phone: must have one of ping-url, ping-url-file, command, "
                "apprise-url-file: it has none"
            ),
        ),
        (
            f'ping-url = "{URL}"\ncommand = ["x"]',
            (
                "notifications.phone: must have one of ping-url, ping-url-file, command, "
                "apprise-url-file: it has ping-url and command"
            ),
        ),
        (
            'command = ["x"]\non = ["fail"]',
            (
                "notifications.phone.on[0]: must be one of started, ok, warned, partial, failed, "
                'interrupted, skipped, not "fail"; did you mean failed?'
            ),
        ),
        (
            'ping-url = "ftp://secret"',
            "notifications.phone.ping-url: must be a URL like https://hc-ping.com/your-uuid-here",
        ),
        (
            'ping-url = "https://me:secret@host/"',
            "notifications.phone.ping-url: must be a URL like https://hc-ping.com/your-uuid-here",
        ),
        (
            'ping-url-file = "secret"',
            "notifications.phone.ping-url-file: must be an absolute path",
        ),
        (
            'command = "tell secret"',
            (
                "notifications.phone.command: must be a list of strings, "
                'like ["/usr/local/bin/tell-me"]'
            ),
        ),
        (
            'ping-urls = "secret"',
            "notifications.phone.ping-urls: is not a known key; did you mean ping-url?",
        ),
    ],
)
def test_what_is_wrong_is_named_without_its_secret(lines: str, complaint: str) -> None:
    """A URL and a command may hold one."""
    (line,) = complaints(JOB + lines)
    assert line == complaint


def test_an_unknown_notification_is_an_error_with_a_suggestion() -> None:
    """As an unknown repository is."""
    text = JOB.replace('"phone"', '"fone"') + 'command = ["x"]'
    assert complaints(text) == [
        (
            'jobs.home.notify[0]: must be the name of a [notifications.NAME] table, not "fone"; '
            "did you mean phone?"
        )
    ]


def test_metrics_need_an_absolute_directory() -> None:
    """A timer has no working directory that anybody thinks of."""
    text = 'metrics-directory = "metrics"\n' + JOB + 'command = ["x"]'
    assert complaints(text) == ['metrics-directory: must be an absolute path, not "metrics"']


def test_a_metrics_directory_that_is_not_there_is_a_warning() -> None:
    """It is what somebody would wait for in vain."""
    text = 'metrics-directory = "/nowhere/metrics"\n' + JOB + 'command = ["x"]'
    config = parse(text.encode(), "/etc/x.toml", {})
    found = "metrics-directory: /nowhere/metrics: No such file or directory"
    assert [line for line in warnings(config) if "password" not in line] == [found]


def test_showing_masks_the_url_and_says_what_is_told() -> None:
    """Anybody may see it then."""
    text = as_toml(read(f'ping-url = "{URL}"'))
    assert "secret" not in text
    shown = json.loads(as_json(read(f'ping-url = "{URL}"')))["notifications"]["phone"]
    assert shown["ping-url"] == "***"
    assert shown["on"] == ["started", "ok", "warned", "partial", "failed", "interrupted"]


def test_what_is_shown_can_be_read_again() -> None:
    """With what was a default before."""
    config = read('command = ["tell", "me"]')
    again = parse(as_toml(config).encode(), "/etc/x.toml", {})
    assert again.notifications["phone"].events == config.notifications["phone"].events
    assert as_toml(again) == as_toml(config)


def test_a_file_with_a_url_is_a_secret(tmp_path: Path) -> None:
    """Whom it tells what is nobody else's business."""
    path = tmp_path / "url"
    path.write_text(URL)
    path.chmod(0o644)
    (warning,) = warnings(read(f'ping-url-file = "{path}"'))[1:]
    assert warning == (
        f"notifications.phone.ping-url-file: {path} can be read by every user; run: chmod o= {path}"
    )
