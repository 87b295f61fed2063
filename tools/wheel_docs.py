"""The build step that puts man pages, completions and the files of share/ into the wheel.

All of it lies below `share` there; what share/ holds, in `share/holdstill`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelDocs(BuildHookInterface[Any]):
    """Called by hatchling for every wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the pages from the sources that are being packed; an editable wheel needs none."""
        if version == "editable":
            return
        root = Path(self.root)
        sys.path[:0] = [str(root / "src"), str(root)]
        from holdstill.cli.main import build_parser
        from tools.docs import write_docs

        share = root / "build/share"
        for page in write_docs(build_parser(), share):
            build_data["shared_data"][str(page)] = f"share/{page.relative_to(share)}"
        if (own := root / "share").is_dir():
            build_data["shared_data"][str(own)] = "share/holdstill"
