"""The users of this machine (passwd(5)), also those that only a directory service knows."""

from __future__ import annotations

import os

from holdstill.tuples import NamedTuple


class User(NamedTuple):
    """Who a process can run as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All of them, the primary one included."""
    home: str


def find(name: str) -> User | None:
    """Return a user by name, None where there is none."""
    import pwd

    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = tuple(os.getgrouplist(name, found.pw_gid))
    return User(name, found.pw_uid, found.pw_gid, groups, found.pw_dir)
