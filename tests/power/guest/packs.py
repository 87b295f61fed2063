"""Reports when restic has begun to change a repository.

packs.py written COUNT REPOSITORY    so many packs are there that were not there before
packs.py removed COUNT REPOSITORY    so many have gone
"""

from __future__ import annotations

import os
import sys
import time


def packs(repository: str) -> set[str]:
    """Return the names of all packs that are complete."""
    names = (name for entry in os.scandir(f"{repository}/data") for name in os.listdir(entry))
    return {name for name in names if "tmp" not in name}


if __name__ == "__main__":
    what, count, repository = sys.argv[1:]
    before = packs(repository)
    os.write(int(os.environ["REPORT"]), b"watching\n")
    while True:
        now = packs(repository)
        changed = now - before if what == "written" else before - now
        if len(changed) >= int(count):
            os.write(int(os.environ["REPORT"]), b"now\n")
            break
        time.sleep(0.002)
