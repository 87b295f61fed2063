"""Where a repository is, as restic spells it, and the password in there; where a ping goes."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


SCHEMES: Final = ("local", "sftp", "rest", "s3", "b2", "azure", "gs", "swift", "rclone")

MASK: Final = "***"

HTTP_URL: Final = (
    r"(https?)://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
    r"(/[!-\"$->@-~]*)?(\?[!-\"$-~]*)?"
)
"""What a ping can be sent to: scheme, host, port, path, query. No user, and no fragment."""

_WITHOUT_USERS: Final = ("b2", "azure", "gs", "swift", "rclone")
_NO_PORT: Final = r"(?:\[[^\]]*\]|[^/:@\[]*):(?!\d*(?:[/?#]|$))"
_HIDDEN_PARAMETER: Final = (
    r"(?i)([,?&][a-z_]*(?:pass|password|secret|token|key)=)"
    r"""("(?:[^"]|"")*"|'(?:[^']|'')*'|[^,:&]*)"""
)


def scheme_of(url: str) -> str:
    """Return the backend that restic sees in `url`: one of SCHEMES, or "" for a plain path."""
    scheme, colon, _ = url.partition(":")
    return scheme if colon and scheme in SCHEMES else ""


def local_path(url: str) -> str | None:
    """Return the directory of a repository on this machine, None for one that is elsewhere."""
    scheme = scheme_of(url)
    if scheme == "local":
        return url.removeprefix("local:")
    return None if scheme else url


def without_password(url: str) -> str:
    """Return `url` with every password in it replaced by `***`, everything else as it is.

    A password stands between the user's name and the `@` of the host, or in a parameter such as
    `pass=` of an rclone connection string. Malformed URLs lose rather too much than too little.
    """
    if (local_path(url) or "").startswith("/"):
        return url
    url = re.sub(_HIDDEN_PARAMETER, rf"\g<1>{MASK}", url)
    scheme = scheme_of(url)
    if scheme in _WITHOUT_USERS:
        return url
    start = url.find("//") + 2
    if start > 1:
        return url[:start] + _without_user_password(url[start:], strict=False)
    start = len(scheme) + 1 if scheme else 0
    return url[:start] + _without_user_password(url[start:], strict=True)


def _without_user_password(tail: str, *, strict: bool) -> str:
    """Mask the password in `user:password@host/path`.

    Neither `/` nor `@` is legal in the password. Unless `strict`, one that has them all the same
    is masked too: where there is a password (what follows the first colon is no port number), the
    last `@` of all ends it.
    """
    authority = re.split("[/?#]", tail, maxsplit=1)[0]
    end = authority.rfind("@")
    if not strict and (":" in authority[:end] if end >= 0 else re.match(_NO_PORT, tail)):
        end = tail.rfind("@")
    user, _, password = tail[: max(end, 0)].partition(":")
    return f"{user}:{MASK}{tail[end:]}" if password else tail
