"""What the demonstration says about what it has seen."""

from __future__ import annotations

from holdstill.demo.bank import Audit
from holdstill.demo.report import conclusion, holds, in_words, rows, table
from holdstill.demo.rounds import HELD, PLAIN, Backup, Result

RIGHT = Audit()
OFF = Audit(off_by=-1234)
BROKEN = Audit(malformed="database disk image is malformed")


def result(method: str, *audits: Audit, said_ok: bool = True, seconds: float = 1.0) -> Result:
    """Return the result of one backup."""
    return Result(method, Backup("1a2b3c4d", seconds, said_ok), audits)


def test_the_table_counts_backups_wrong_restores_and_what_was_wrong() -> None:
    """One row a method, aligned, without colour."""
    seen = [
        result(PLAIN, RIGHT, OFF, seconds=9),
        result(HELD, RIGHT, RIGHT),
        result(PLAIN, OFF, BROKEN),
        result(HELD, RIGHT, RIGHT),
        result(PLAIN, RIGHT, RIGHT),
        result(HELD, RIGHT, RIGHT),
    ]
    heading, plain, held = table(seen).splitlines()
    wrong = "2 of 6 sums off, by up to 1,234; 1 of 6 malformed"
    assert heading == f"              backups  restores wrong  {'what was wrong':49}   took"
    assert plain == f"plain restic        3          2 of 3  {wrong}  1.0 s"
    assert held == f"holdstill           3          0 of 3  {'nothing':49}  1.0 s"
    assert [row.wrong for row in rows(seen)] == [2, 0]


def test_each_restore_is_described() -> None:
    """What was found in it, in the order of its banks."""
    assert in_words(result(HELD, RIGHT, RIGHT)) == "restored: all 2 banks are right"
    assert in_words(result(PLAIN, RIGHT, OFF, BROKEN)) == (
        "restored: 2 of 3 banks are WRONG: sum off by -1,234, "
        "malformed (database disk image is malformed)"
    )


def test_luck_is_called_luck() -> None:
    """Where plain restic survived, the demonstration does not pretend otherwise."""
    said = conclusion([result(PLAIN, RIGHT), result(HELD, RIGHT)])
    assert "from plain restic's backups none were wrong" in said
    assert "got away with it this time" in said
    assert "reported success" not in said


def test_backups_that_warned_are_told_from_those_that_did_not() -> None:
    """A journal that vanishes just before it is read makes restic warn."""
    silent, warned = result(PLAIN, OFF), result(PLAIN, OFF, said_ok=False)
    kept = result(HELD, RIGHT)
    assert "Every wrong one came from a backup that had" in conclusion([silent, silent, kept])
    assert "1 of the 2 wrong ones came from" in conclusion([silent, warned, kept])
    assert "reported success" not in conclusion([warned, kept])


def test_a_wrong_restore_from_holdstill_fails_the_demonstration() -> None:
    """It is a bug, and is called one."""
    bad = [result(PLAIN, OFF), result(HELD, RIGHT), result(HELD, OFF)]
    assert not holds(bad)
    assert "Please report it" in conclusion(bad)
    assert holds([result(PLAIN, OFF), result(HELD, RIGHT)])
