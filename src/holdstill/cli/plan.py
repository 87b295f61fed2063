"""`holdstill plan`: everything that a run would do, before anything is done."""

from __future__ import annotations

import os
import sys

from holdstill.cli.options import HelpFormatter, add_config_option, add_jobs_argument
from holdstill.linux.mountinfo import is_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from holdstill.jobs.plan import JobPlan
    from holdstill.jobs.preview import Preview
    from holdstill.scope import FreezePlan
    from holdstill.snapshots.model import Layer, Source

_EPILOG = """\
exit status:
  0   every job can be run
  1   a source cannot be frozen, or restic cannot be used
  77  not permitted
  78  configuration error
  with several jobs: the highest
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plan",
        help="say what a run would do",
        description="Print what would be frozen, where it would show, what would stay live, what "
        "would be left out and why, what is worth knowing before, and restic's command lines. "
        "Nothing is changed.",
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
    )
    add_jobs_argument(parser)
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per job")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan the jobs and print the plans; the exit status is that of the worst."""
    from holdstill.cli.messages import say_failure, warn
    from holdstill.cli.options import chosen_jobs, forbid_others_to_write, load_config
    from holdstill.cli.plan_text import lines
    from holdstill.config.warnings import warnings as config_warnings
    from holdstill.jobs.preview import preview
    from holdstill.linux import privileges

    privileges.require()
    forbid_others_to_write()
    config = load_config(arguments)
    for text in config_warnings(config):
        warn(text)
    status, gap = 0, ""
    for name in chosen_jobs(arguments, config):
        found = preview(config, name, os.environ)
        for text in found.warnings:
            warn(f"{name}: {text}")
        for failure in found.failures:
            say_failure(f"{name}: {failure.message}", failure.remedy)
        status = max(status, found.exit_status)
        if arguments.json:
            print(_json(found))
        elif found.plan is not None:
            print(gap + printable("\n".join(lines(found.plan, found.notes))))
            gap = "\n"
    return status


def printable(text: str) -> str:
    """Return what standard output has letters for: in some locales it has none for a tree."""
    from holdstill.cli.results import can_print

    if can_print(text):
        return text
    encoding = sys.stdout.encoding
    text = text.translate(str.maketrans("├└│─", "|`|-"))
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _json(found: Preview) -> str:
    import json

    plan = _plan(found.plan) if found.plan is not None else {}
    notes = [note._asdict() for note in found.notes]
    failures = [{"message": one.message, "remedy": one.remedy} for one in found.failures]
    said = {"notes": notes, "warnings": found.warnings, "failures": failures}
    return json.dumps({"job": found.job, **plan, **said})


def _plan(plan: JobPlan) -> dict[str, object]:
    hidden = ({"path": h.path, "reason": h.reason, "remedy": h.remedy} for h in plan.left_out)
    return {
        "paths": plan.freeze.paths,
        "sources": [_source(source, plan.freeze) for source in plan.freeze.sources],
        "frozen": [_layer(layer) for layer in plan.freeze.layers],
        "live": [live._asdict() for live in plan.handed_in],
        "left_out": list(hidden),
        "commands": [command.shown() for command in plan.commands()],
    }


def _source(source: Source, freeze: FreezePlan) -> dict[str, object]:
    mounted = source.layers[0]
    below = (layer.target for layer in freeze.layers if is_below(layer.target, source.path))
    return {
        "path": source.path,
        "mount": {
            "mount_point": source.mount.mount_point,
            "fs_type": source.mount.fs_type,
            "options": source.mount.super_options,
            **_place(mounted),
        },
        "subvolume_id": source.subvolume.id,
        "subvolumes_below": list(below),
    }


def _layer(layer: Layer) -> dict[str, object]:
    return {"path": layer.target, **_place(layer)}


def _place(layer: Layer) -> dict[str, object]:
    subvolume = layer.subvolume
    return {
        "device": subvolume.device,
        "file_system": subvolume.file_system,
        "subvolume_id": subvolume.id,
        "subvolume": subvolume.path,
        "directory": layer.directory,
    }
