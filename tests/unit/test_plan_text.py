"""A plan as people read it: a tree of what is frozen, and lists of all else, in 80 columns."""

from __future__ import annotations

import shlex

import pytest

from holdstill.cli.plan_text import lines
from holdstill.jobs.plan import JobPlan, Live, RepositoryPlan
from holdstill.linux.mountinfo import Mount
from holdstill.restic.binary import Binary
from holdstill.restic.commands import Backup, Target
from holdstill.restic.versions import Version
from holdstill.scope import Wishes, assemble
from holdstill.snapshots.model import Layer, Nested, Source, Subvolume
from holdstill.snapshots.notes import Kind, Note


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def mount(path: str, fs_type: str = "btrfs", root: str = "/") -> Mount:
    """Return a row of mountinfo."""
    return Mount(hash(path), 0, "0:40", root, path, (), fs_type, "/dev/sdb1", ("rw",))


def subvolume(number: int, path: str) -> Subvolume:
    """Return a subvolume of the one disk."""
    return Subvolume("fs", "/dev/sdb1", number, f"uuid-{number}", path)


def planned(*sources: Source, needs: tuple[Live, ...] = (), tags: tuple[str, ...] = ()) -> JobPlan:
    """Return the plan of a job whose paths are all the sources."""
    paths = tuple(source.path for source in sources)
    decided = assemble(paths, sources, Wishes(leave_out=("/srv/data/out",)))
    target = Target("nas", "/repo", "holdstill restic data", None)
    backup = Backup(paths, "host", None, tags=tags)
    binary = Binary("/usr/bin/restic", Version(0, 18, 0))
    plans = (RepositoryPlan(target, backup, None),)
    return JobPlan("data", decided, needs, (), plans, binary, {})


DATA = Source(
    "/srv/data",
    mount("/srv/data", root="/@data"),
    (Layer("/srv/data", subvolume(256, "@data"), ""),),
    (
        Nested("/srv/data/mail", subvolume(257, "@data/mail"), ""),
        Nested("/srv/data/mail/old", subvolume(258, "@data/mail/old"), ""),
        Nested("/srv/data/out", subvolume(259, "@data/out"), ""),
        Nested("/srv/data/a b/\n", subvolume(260, "@data/a b/\n"), ""),
    ),
    (mount("/srv/data/t1", "tmpfs"), mount("/srv/data/t2", "tmpfs")),
)
BOUND = Source(
    "/mnt/bound",
    mount("/mnt/bound", root="/@data/dir"),
    (Layer("/mnt/bound", subvolume(256, "@data"), "dir"),),
    (),
    (),
)


def test_a_plan_reads_from_the_sources_to_the_commands() -> None:
    """Each part under its heading; what has the same reason is named under it."""
    needs = (Live("/srv/data/cache", "restic's cache"), Live("/tmp", "TMPDIR"))
    note = Note("/srv/data/mail", Kind.NOCOW, "NOCOW:" + " long words" * 8, "so what")
    assert (
        "\n".join(lines(planned(DATA, BOUND, needs=needs), [note]))
        == r"""data
  sources
    /srv/data
      btrfs on /dev/sdb1: subvolume 256 (@data), mounted here
    /mnt/bound
      btrfs on /dev/sdb1: directory dir of subvolume 256 (@data), mounted here
  in the view: 4 snapshots, read-only
    /mnt/bound      snapshot of subvolume 256 (@data), its directory dir
    /srv/data       snapshot of subvolume 256 (@data)
    ├─ $'a b/\x0a'  snapshot of subvolume 260
    └─ mail         snapshot of subvolume 257
       └─ old       snapshot of subvolume 258
  live in the view, and not in the backup
    /srv/data/cache  restic's cache
  left out: 4 places
    a subvolume that nested-exclude names
      /srv/data/out
    another mount (tmpfs)
      /srv/data/t1
      /srv/data/t2
    restic writes there: its cache, TMPDIR or a repository; put it elsewhere
    to have the rest of it backed up
      /srv/data/cache
  notes
    NOCOW: long words long words long words long words long words long words
    long words long words; so what
      /srv/data/mail
  commands; a backup also gets its instant (--time)
    RESTIC_REPOSITORY=/repo RESTIC_FEATURES=device-id-for-hardlinks \
      /usr/bin/restic backup --json --no-cache --host host -- /srv/data \
      /mnt/bound"""
    )


def test_a_subvolume_is_named_where_its_place_does_not_say_it() -> None:
    """One that is mounted at another place than its own; in the root, too."""
    root = Source("/", mount("/"), (Layer("/", subvolume(256, "@"), ""),), (
        Nested("/srv/in", subvolume(258, "@/srv/in"), ""),
    ), ())  # fmt: skip
    home = Source("/home", mount("/home"), (Layer("/home", subvolume(257, "@home"), ""),), (), ())
    text = list(lines(planned(root, home), []))
    start = text.index("  in the view: 3 snapshots, read-only")
    assert text[start + 1 : start + 4] == [
        "    /          snapshot of subvolume 256 (@)",
        "    ├─ home    snapshot of subvolume 257 (@home)",
        "    └─ srv/in  snapshot of subvolume 258",
    ]


def test_commands_are_broken_where_a_shell_joins_them() -> None:
    """Pasted, they are the commands; an option stays with its value."""
    plan = planned(DATA, tags=tuple(f"it's tag {number}" for number in range(20)))
    text = list(lines(plan, []))
    start = next(number for number, line in enumerate(text) if "commands" in line) + 1
    assert max(map(len, text)) <= 80
    assert not any(line.endswith("--tag \\") for line in text)
    pasted = "\n".join(text[start:]).replace("\\\n", " ")
    (command,) = plan.commands()
    assert shlex.split(pasted) == shlex.split(command.shown())
