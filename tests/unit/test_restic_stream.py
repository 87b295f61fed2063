"""Whatever restic says and ends with, or what stands in its place: no error, no false success."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from holdstill.process import Ended
from holdstill.restic.binary import Binary
from holdstill.restic.client import Client
from holdstill.restic.commands import Backup, Retention, Target
from holdstill.restic.outcome import Outcome
from holdstill.restic.versions import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TARGET = Target("nas", "/srv/repository", "holdstill restic home", cache_directory=None)
BACKUP = Backup(("/home",), "host", None)
RETENTION = Retention(("/home",), "host", keep_last=1)
WHOLE = b'{"message_type":"summary","snapshot_id":"0123456789abcdef"}'
ERROR = b'{"message_type":"error","error":{"message":"gone"},"item":"/home/x"}'
MISSING = b"/home/x does not exist, skipping"
EVENTS = st.fixed_dictionaries(
    {"message_type": st.sampled_from(["status", "summary", "error", "exit_error"])},
    optional={
        "snapshot_id": st.text("0123456789abcdef", max_size=10) | st.integers(),
        "error": st.dictionaries(st.just("message"), st.text()) | st.text(),
        "item": st.text() | st.none(),
        "message": st.text(),
        "code": st.integers(),
        "percent_done": st.floats() | st.text(),
    },
)
LINES = (
    st.sampled_from([WHOLE, ERROR, b"Fatal: no", MISSING, b"[]", b"null", b""])
    | EVENTS.map(lambda event: json.dumps(event).encode())
    | st.binary()
)
STREAMS = st.lists(st.tuples(st.booleans(), LINES))
STATUSES = st.sampled_from([0, 1, 2, 3, 10, 11, 12, 130]) | st.integers(0, 255)
VERSIONS = st.sampled_from([Version(0, 14, 0), Version(0, 17, 0), Version(0, 19, 1)])


def _client(version: Version, stream: Sequence[tuple[bool, bytes]], status: int) -> Client:
    def run(
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        on_stdout: Callable[[bytes], None],
        on_stderr: Callable[[bytes], None],
    ) -> Ended:
        assert argv
        assert environment
        for is_error, line in stream:
            (on_stderr if is_error else on_stdout)(line)
        return Ended(status)

    return Client(run, Binary("/usr/bin/restic", version), MappingProxyType({"PATH": "/usr/bin"}))


@given(VERSIONS, STREAMS, STATUSES)
@example(Version(0, 14, 0), [(False, WHOLE)], 0)
@example(Version(0, 14, 0), [(False, WHOLE), (True, b"Fatal: no"), (True, MISSING)], 0)
@example(Version(0, 14, 0), [(True, MISSING), (False, WHOLE)], 0)
def test_a_backup_is_ok_only_with_a_snapshot_and_without_an_error(
    version: Version, stream: list[tuple[bool, bytes]], status: int
) -> None:
    """Status 0, a summary that names a snapshot, and no error among all that was said."""
    warnings: list[str] = []
    client = _client(version, stream, status)
    result = client.backup(TARGET, BACKUP, lambda _: None, warnings.append)
    assert all(text.isprintable() for text in (*warnings, result.remedy))
    if result.outcome is Outcome.OK:
        assert (status, result.error_count) == (0, 0)
        assert len(result.summary.snapshot_id) >= 8
        assert not {ERROR, MISSING} & {line for _, line in stream}
    else:
        assert result.message


@given(VERSIONS, STREAMS, STATUSES)
def test_a_retention_is_ok_only_with_an_answer(
    version: Version, stream: list[tuple[bool, bytes]], status: int
) -> None:
    """Status 0, and groups that it was applied to."""
    result = _client(version, stream, status).forget(TARGET, RETENTION, lambda _: None)
    if result.outcome is Outcome.OK:
        assert status == 0
        assert any(line.startswith(b"[") for is_error, line in stream if not is_error)
