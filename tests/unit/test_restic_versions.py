"""restic's versions as restic announces them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdstill.restic.versions import OLDEST, Version, parse


@pytest.mark.parametrize(
    ("announcement", "version"),
    [
        ("restic 0.14.0 compiled with go1.19.8 on linux/amd64", Version(0, 14, 0)),
        ("restic 0.18.0-dev (compiled manually) compiled with go1.24.4", Version(0, 18, 0)),
        ("restic 0.9.6 (v0.9.6-0-g123abc) compiled with go1.13.4", Version(0, 9, 6)),
        ("restic 0.19.1", Version(0, 19, 1)),
        ("restic 1.0 compiled with go2", Version(1, 0, 0)),
    ],
)
def test_version_is_read_from_the_announcement(announcement: str, version: Version) -> None:
    """Releases, development versions and builds from git are understood."""
    assert parse(announcement) == version


@pytest.mark.parametrize("text", ["", "restic", "rustic 0.9.0", "restic 0", "restic 0.1.2.3", "{}"])
def test_what_is_not_restic_has_no_version(text: str) -> None:
    """An answer that restic never gives is not guessed at."""
    assert parse(text) is None


def test_versions_are_ordered_by_number_and_not_by_text() -> None:
    """0.9 is older than 0.14."""
    assert Version(0, 9, 6) < OLDEST < Version(0, 17, 3) < Version(0, 18, 0) < Version(1, 0, 0)


def test_feature_flags_begin_with_0_17() -> None:
    """An unknown feature is an error for restic, so that the limit has to be exact."""
    assert not Version(0, 16, 5).device_id_for_hardlinks
    assert Version(0, 17, 0).device_id_for_hardlinks


@given(st.tuples(*[st.integers(0, 999_999)] * 3), st.sampled_from(["", " compiled", "-dev"]))
def test_every_version_survives_being_printed(numbers: tuple[int, int, int], tail: str) -> None:
    """What is remembered as text is the same version when read again."""
    assert parse(f"restic {Version(*numbers)}{tail}") == Version(*numbers)


@given(st.text())
def test_no_announcement_raises(text: str) -> None:
    """Whatever stands in PATH under that name, the answer is a version or none."""
    parse(text)
    parse(f"restic {text}")
