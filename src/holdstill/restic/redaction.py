"""Keeps the secrets of a repository out of everything that is printed or recorded."""

from __future__ import annotations

import re

from holdstill.locations import MASK, without_password

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET_NAMES = ("PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "SAS")


def secrets_in(url: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return every text that must not be shown, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if any(part in name.upper() for part in _SECRET_NAMES)
    }
    for secret in _masked_in(url):
        found |= {secret, _unquoted(secret)}
    return tuple(sorted((secret for secret in found if secret), key=lambda s: (-len(s), s)))


def _masked_in(url: str) -> tuple[str, ...]:
    """Return what `without_password` hides of a URL."""
    parts = without_password(url).split(MASK)
    if len(parts) == 1:
        return ()
    match = re.fullmatch("(.+?)".join(map(re.escape, parts)), url, re.DOTALL)
    return match.groups() if match else ()


def redacted(text: str, secrets: tuple[str, ...]) -> str:
    """Return the text with every secret masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _unquoted(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)
