"""restic's versions, and what each of them can do."""

from __future__ import annotations

import re

from holdstill.tuples import NamedTuple


class Version(NamedTuple):
    """A release of restic; versions compare in the order of their release."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def device_id_for_hardlinks(self) -> bool:
        """Whether RESTIC_FEATURES knows that name; an unknown one is an error from 0.17 on."""
        return self >= (0, 17, 0)

    @property
    def retry_lock(self) -> bool:
        """Whether it can wait for another restic's lock."""
        return self >= (0, 16, 0)

    @property
    def telling_exit_codes(self) -> bool:
        """Whether 10, 11 and 12 say what is wrong with the repository (12 came with 0.17.1)."""
        return self >= (0, 17, 0)


OLDEST = Version(0, 14, 0)
"""The oldest restic that holdstill works with, that of Debian 12."""

# A development version (`0.18.0-dev`) is built after the release whose number it carries.
_ANNOUNCEMENT = r"restic v?([0-9]{1,6})\.([0-9]{1,6})(?:\.([0-9]{1,6}))?(?![0-9.])"


def parse(announcement: str) -> Version | None:
    """Read what `restic version` prints; None where it is not restic that speaks."""
    match = re.match(_ANNOUNCEMENT, announcement)
    if match is None:
        return None
    return Version(int(match[1]), int(match[2]), int(match[3] or 0))
