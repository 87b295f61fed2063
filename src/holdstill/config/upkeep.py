"""The tables of a job that say which backups stay, and how its repositories are kept in order."""

# No annotations as texts, from __future__: msgspec would have to compile each of them.
from typing import Annotated, Final

import msgspec
from msgspec import Meta

GROUPINGS: Final = ("host", "paths", "tags")
DURATION_PATTERN: Final = r"^([0-9]+[ymdh])*$"
MAX_UNUSED_PATTERN: Final = r"^([0-9]+[bBkKmMgGtT]?|[0-9]{1,2}(\.[0-9]+)?%|unlimited)?$"
READ_DATA_SUBSET_PATTERN: Final = r"^([0-9]+/[0-9]+|[0-9]{1,3}(\.[0-9]+)?%|[0-9]+[kKmMgGtT])?$"
HIGHEST_COUNT: Final = 999_999_999


def _count(description: str) -> Meta:
    return Meta(ge=0, le=HIGHEST_COUNT, description=description, examples=[7])


class Keep(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """Which backups of a job stay: restic forget's policy. At least one key besides group-by."""

    last: Annotated[int, _count("Keep this many of the latest backups.")] = 0
    hourly: Annotated[int, _count("Keep one backup for each of this many hours.")] = 0
    daily: Annotated[int, _count("Keep one backup for each of this many days.")] = 0
    weekly: Annotated[int, _count("Keep one backup for each of this many weeks.")] = 0
    monthly: Annotated[int, _count("Keep one backup for each of this many months.")] = 0
    yearly: Annotated[int, _count("Keep one backup for each of this many years.")] = 0
    within: Annotated[
        str,
        Meta(
            pattern=DURATION_PATTERN,
            description="Keep every backup made within this long before the latest one: years, "
            "months, days and hours, as in 1y5m7d2h.",
            examples=["1y5m7d2h"],
        ),
    ] = ""
    group_by: Annotated[
        tuple[Annotated[str, Meta(extra_json_schema={"enum": list(GROUPINGS)})], ...],
        Meta(
            description="The policy is applied to each group of backups that agree in these.",
            examples=[["paths", "tags"]],
        ),
    ] = ("paths", "tags")


class Prune(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """Remove data that no backup uses any more, after the retention policy was applied."""

    max_unused: Annotated[
        str,
        Meta(
            pattern=MAX_UNUSED_PATTERN,
            description="Tolerate this much unused data: a size (5G), a share of the repository "
            "(5%), or unlimited. Without it restic's default applies.",
            examples=["5G"],
        ),
    ] = ""
    schedule: Annotated[
        str,
        Meta(
            description="Do it at these times, as a systemd calendar expression, in a unit of its "
            "own (`holdstill schedule install`), and not after each backup.",
            examples=["Sun *-*-* 05:00:00"],
        ),
    ] = ""


class Check(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """Let restic check the job's repositories, in a unit of its own (`schedule install`)."""

    schedule: Annotated[
        str,
        Meta(
            min_length=1,
            description="When, as a systemd calendar expression.",
            examples=["Sat *-*-* 05:00:00"],
        ),
    ]
    read_data_subset: Annotated[
        str,
        Meta(
            pattern=READ_DATA_SUBSET_PATTERN,
            description="Also read the data themselves: a share (5%), a size (10G) or a part of "
            "all (1/12). Without it restic checks only that everything is there.",
            examples=["5%"],
        ),
    ] = ""
