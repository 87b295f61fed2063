"""A job's plan as a text to read: what is frozen as a tree, all else in lists."""

from __future__ import annotations

from holdstill.cli.format import count
from holdstill.cli.options import columns
from holdstill.errors import shown
from holdstill.linux.mountinfo import above

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdstill.jobs.plan import JobPlan
    from holdstill.restic.commands import Command
    from holdstill.scope import FreezePlan
    from holdstill.snapshots.model import Layer, Source
    from holdstill.snapshots.notes import Note

_LONGEST_NAME = 40


def lines(plan: JobPlan, notes: Sequence[Note]) -> Iterator[str]:
    """Yield the lines of a plan, and of what is worth knowing about it."""
    freeze, live = plan.freeze, [(shown(one.path), one.what) for one in plan.handed_in]
    left_out = [(joined(one.reason, one.remedy), one.path) for one in plan.left_out]
    noted = [(joined(note.text, note.remedy), note.path) for note in notes]
    snapshots = count(len(freeze.subvolumes), "snapshot")
    yield plan.job
    yield from section("sources", _sources(freeze))
    yield from section(f"in the view: {snapshots}, read-only", aligned(branches(freeze.layers)))
    yield from section("live in the view, and not in the backup", aligned(live))
    yield from section(f"left out: {count(len(left_out), 'place')}", grouped(left_out))
    yield from section("notes", grouped(noted))
    commands = _commands(plan.commands())
    yield from section("commands; a backup also gets its instant (--time)", commands)


def joined(text: str, remedy: str) -> str:
    """Return a text and what could be done about it."""
    return f"{text}; {remedy}" if remedy else text


def section(title: str, content: Iterable[str]) -> Iterator[str]:
    """Yield a title and the lines below it; nothing if there are none."""
    inner = [f"    {line}" for line in content]
    if inner:
        yield f"  {title}"
        yield from inner


def _sources(freeze: FreezePlan) -> Iterator[str]:
    for source in freeze.sources:
        included = "" if source.path in freeze.paths else " (a mount below, included)"
        yield f"{shown(source.path)}{included}"
        yield f"  {_mounted(source)}"


def _mounted(source: Source) -> str:
    mount, layer = source.mount, source.layers[0]
    directory = f"directory {shown(layer.directory)} of " if layer.directory else ""
    where = "here" if mount.mount_point == source.path else f"at {shown(mount.mount_point)}"
    device = shown(layer.subvolume.device)
    return f"{mount.fs_type} on {device}: {directory}{layer.subvolume.name}, mounted {where}"


def aligned(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield lines of names and what they are, in two columns."""
    rows = list(pairs)
    width = max((len(name) for name, _ in rows if len(name) <= _LONGEST_NAME), default=0)
    for name, what in rows:
        yield f"{name:{width}}  {what}"


def branches(layers: Sequence[Layer]) -> Iterator[tuple[str, str]]:
    """Yield places and what shows there, as a tree: below each, what lies in it."""
    at = {layer.target: layer for layer in layers}
    inside: dict[Layer | None, list[Layer]] = {}
    for layer in sorted(layers, key=lambda one: one.target, reverse=True):
        inside.setdefault(_around(layer, at), []).append(layer)
    waiting = [(layer, shown(layer.target), "") for layer in inside[None]]
    while waiting:
        layer, name, indent = waiting.pop()
        yield name, _appearance(layer, _around(layer, at))
        for number, inner in enumerate(inside.get(layer, ())):
            branch, below = ("├─ ", "│  ") if number else ("└─ ", "   ")
            place = shown(_from(layer, inner))
            waiting.append((inner, f"{indent}{branch}{place}", indent + below))


def _around(layer: Layer, at: dict[str, Layer]) -> Layer | None:
    """Return the layer that a layer shows in."""
    return next((at[path] for path in above(layer.target) if path in at), None)


def _from(outer: Layer, layer: Layer) -> str:
    return layer.target.removeprefix(outer.target).lstrip("/")


def _appearance(layer: Layer, outer: Layer | None) -> str:
    """Say what shows; the name of a subvolume is left out where its place says it."""
    name = layer.subvolume.name
    if outer is not None:
        parts = (outer.subvolume.path, outer.directory, _from(outer, layer))
        if "/".join(filter(None, parts)) == layer.subvolume.path:
            name = f"subvolume {layer.subvolume.id}"
    directory = f", its directory {shown(layer.directory)}" if layer.directory else ""
    return f"snapshot of {name}{directory}"


def grouped(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each text once, and the paths that it speaks of below it."""
    from textwrap import wrap

    paths: dict[str, list[str]] = {}
    for text, path in pairs:
        paths.setdefault(text, []).append(path)
    for text, those in paths.items():
        yield from wrap(text, columns() - 6, break_long_words=False, break_on_hyphens=False)
        yield from (f"  {shown(path)}" for path in sorted(those))


def _commands(commands: Iterable[Command]) -> Iterator[str]:
    """Yield lines that a shell reads as the commands, an option and its value on one."""
    for command in commands:
        line = ""
        for word in _with_values(command.words()):
            if line and len(line) + len(word) + 7 > columns():
                yield f"{line} \\"
                line = "  "
            line += word if not line.strip() else f" {word}"
        yield line


def _with_values(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if found and found[-1].startswith("--") and " " not in found[-1] and word[0] != "-":
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found
