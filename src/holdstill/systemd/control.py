"""What systemd is asked and told, through its own programs."""

from __future__ import annotations

import os

from holdstill import process
from holdstill.errors import HoldstillError, ProgramError
from holdstill.systemd.timers import blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RUNNING = "/run/systemd/system"  # sd_booted(3)
_STATES = "Id,LoadState,UnitFileState,ActiveState,SubState,Result"


def is_in_charge() -> bool:
    """Whether systemd has booted this machine."""
    return os.path.isdir(_RUNNING)


def calendar_complaint(expression: str) -> str:
    """Return systemd's own words on what is wrong with a calendar expression; empty: nothing."""
    answer = _ask("systemd-analyze", "calendar", "--", expression)
    if answer.ended.status == 0:
        return ""
    said = os.fsdecode(answer.stderr).strip() or "systemd does not say why"
    return said.splitlines()[0]


def enable(timers: Sequence[str]) -> None:
    """Let timers run, now and after each boot; raises HoldstillError."""
    if timers:
        _tell("enable", "--now", "--quiet", "--", *timers)


def disable(timers: Sequence[str]) -> None:
    """Stop timers for good; raises HoldstillError."""
    if timers:
        _tell("disable", "--now", "--quiet", "--", *timers)


def reload() -> None:
    """Let systemd read the unit files again; raises HoldstillError."""
    _tell("daemon-reload")


def states(units: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """Return what systemd knows of units, by name: some of `systemctl show`'s properties."""
    if not units:
        return {}
    answer = _ask("systemctl", "show", f"--property={_STATES}", "--", *units)
    return {block["Id"]: block for block in blocks(os.fsdecode(answer.stdout)) if "Id" in block}


def _tell(*words: str) -> None:
    answer = _ask("systemctl", "--no-ask-password", *words)
    if answer.ended.status != 0:
        said = os.fsdecode(answer.stderr).strip() or f"exit status {answer.ended.status}"
        message = f"systemctl {words[0]}: {said}"
        raise HoldstillError(message, remedy="see: systemctl status, journalctl -b")


def _ask(*argv: str) -> process.Captured:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return process.capture(argv, environment)
    except HoldstillError as error:
        raise ProgramError(f"{argv[0]}: {error.message}", remedy="install systemd") from error
