"""Repository URLs: which lie on this machine, and how they are shown without passwords."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.locations import local_path, without_password


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/restic", "/srv/restic"),
        ("/srv/a:b", "/srv/a:b"),
        ("local:/srv/restic", "/srv/restic"),
        ("sftp:backup@nas:/srv/restic", None),
        ("rest:https://host:8000/", None),
        ("s3:s3.amazonaws.com/bucket", None),
        ("b2:bucket:path", None),
        ("azure:container:/", None),
        ("gs:bucket:/", None),
        ("swift:container:/path", None),
        ("rclone:remote:path", None),
    ],
)
def test_url_without_a_remote_scheme_is_a_path_here(url: str, path: str | None) -> None:
    """What has none of restic's schemes is a local path."""
    assert local_path(url) == path


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rest:https://user:secret@host:8000/x", "rest:https://user:***@host:8000/x"),
        ("rest:https://user:s:e@c@host/", "rest:https://user:***@host/"),
        ("rest:https://:secret@host/", "rest:https://:***@host/"),
        ("rest:https://user:se/cr?et@host/", "rest:https://user:***@host/"),
        ("s3:https://key:secret@host/bucket", "s3:https://key:***@host/bucket"),
        ("sftp://user:secret@host:22//srv", "sftp://user:***@host:22//srv"),
        ("sftp:user:secret@host:/srv", "sftp:user:***@host:/srv"),
        ("https://user:secret@host/", "https://user:***@host/"),
        ("rest:https://host/?x=1&password=secret", "rest:https://host/?x=1&password=***"),
        ("rclone::sftp,host=h,pass=secret:x", "rclone::sftp,host=h,pass=***:x"),
        ('rclone::sftp,pass="se,c:ret":x', "rclone::sftp,pass=***:x"),
    ],
)
def test_password_in_a_url_is_masked(url: str, shown: str) -> None:
    """User, host and path stay, so that the repository can be recognised."""
    assert without_password(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "/srv/a:b@c",
        "local:/srv/a:b@c",
        "rest:https://user@host:8000/p@th",
        "rest:https://host:8000/a:b@c",
        "rest:https://[::1]:8000/a@b",
        "sftp:backup@nas:/srv/restic",
        "sftp:nas:/srv/a@b",
        "b2:bucket:dir@x",
        "rclone:remote:dir/a@b",
        "rest:https://host/key=3/",
    ],
)
def test_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    """A colon and an @ alone make no password."""
    assert without_password(url) == url


@given(
    st.sampled_from(["rest:https://", "rest:http://", "s3:https://", "sftp://"]),
    st.from_regex(r"[a-z]{0,5}", fullmatch=True),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1).filter(
        # Else the URL is legal, and means a port and a path.
        lambda secret: not re.match("[0-9]*[/?#]", secret)
    ),
)
def test_no_part_of_any_password_is_left(scheme: str, user: str, secret: str) -> None:
    """Also a password with characters that should have been encoded is masked whole."""
    assert without_password(f"{scheme}{user}:{secret}@host/x") == f"{scheme}{user}:***@host/x"


@given(st.text())
def test_masking_twice_changes_nothing(url: str) -> None:
    """What was masked once is safe to show."""
    assert without_password(without_password(url)) == without_password(url)
