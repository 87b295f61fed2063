"""Runs holdstill as its console script does, and writes its peak memory (VmHWM, KiB) to a file.

`peak.py FILE ARGUMENTS...`; VmHWM counts neither restic nor any other child.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from holdstill.cli.main import main

if __name__ == "__main__":
    code = main(sys.argv[2:])
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    Path(sys.argv[1]).write_text(peak[1] if peak else "", encoding="ascii")
    sys.exit(code)
