"""What reading the configuration costs at start-up."""

from __future__ import annotations

import os
import subprocess
import sys

NOT_FOR_EVERY_RUN = ("difflib", "tomli_w", "rich", "sqlite3", "urllib.request", "subprocess")


def test_loading_imports_nothing_that_only_mistakes_or_other_commands_need() -> None:
    """Suggestions, the TOML writer and the schema are left to those who want them."""
    program = "import sys, holdstill.config.load, holdstill.config.warnings; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    # A measured process imports what coverage needs.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    modules = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    assert "msgspec" in modules
    assert not {*NOT_FOR_EVERY_RUN, "holdstill.config.schema"}.intersection(modules)
