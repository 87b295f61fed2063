"""Asks a repository, with restic itself, what is in it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from holdstill.restic.commands import passthrough

if TYPE_CHECKING:
    from holdstill.restic.client import Client
    from holdstill.restic.commands import Target


def restic(client: Client, target: Target, *arguments: str) -> bytes:
    """Return what a restic command prints."""
    command = passthrough(client.binary, target, arguments, client.environment)
    done = subprocess.run(command.argv, env=command.environment, capture_output=True, check=True)
    return done.stdout


def snapshots(client: Client, target: Target) -> list[dict[str, Any]]:
    """Return every snapshot, the oldest first."""
    found: list[dict[str, Any]] = json.loads(restic(client, target, "snapshots", "--json"))
    return sorted(found, key=lambda snapshot: str(snapshot["time"]))


def files(client: Client, target: Target) -> set[str]:
    """Return the names of all files in the latest snapshot."""
    lines = restic(client, target, "ls", "--json", "latest").splitlines()
    nodes = [json.loads(line) for line in lines]
    return {node["path"] for node in nodes if node.get("type") == "file"}
