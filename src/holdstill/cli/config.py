"""`holdstill config`: check the configuration, show it, describe it to editors."""

from __future__ import annotations

import os
import sys

from holdstill.cli import messages
from holdstill.cli.options import HelpFormatter, add_config_option, load_config
from holdstill.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_EXIT_STATUS = """\
exit status:
  0 ok, 2 wrong command line, 78 configuration error
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    parser = commands.add_parser(
        "config",
        help="check, show or describe the configuration",
        description="Check the configuration, show it with its defaults, or print its schema.",
        epilog=_EXIT_STATUS,
        formatter_class=HelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_check(actions)
    _add_show(actions)
    _add_schema(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the action; raises ConfigurationError for a configuration that cannot be used."""
    actions = {"check": _check, "show": _show, "schema": _schema}
    actions[arguments.action](arguments)
    return 0


def _add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=_EXIT_STATUS,
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run, action=name)
    return parser


def _add_check(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    description = (
        "Read the configuration and list every problem in it. A file that it names and that is\n"
        "not there, or a secret that every user can read, is a warning."
    )
    add_config_option(_add_action(actions, "check", "find what is wrong with it", description))


def _add_show(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    description = (
        "Print the configuration in force, with its defaults. Passwords in URLs are masked."
    )
    parser = _add_action(actions, "show", "print it with its defaults", description)
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of TOML")


def _add_schema(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    description = "Print the JSON Schema of the configuration file, for editors that complete it."
    _add_action(actions, "schema", "print its JSON Schema", description)


def _check(arguments: argparse.Namespace) -> None:
    from holdstill.config.load import locate
    from holdstill.config.warnings import warnings

    config = load_config(arguments)
    for warning in warnings(config):
        messages.warn(warning)
    jobs = _counted(len(config.jobs), "job", "jobs")
    repositories = _counted(len(config.repositories), "repository", "repositories")
    path = locate(getattr(arguments, "config", None), os.environ)
    print(f"{shown(path)}: ok: {jobs}, {repositories}")


def _show(arguments: argparse.Namespace) -> None:
    from holdstill.config.show import as_json, as_toml

    config = load_config(arguments)
    text = as_json(config) if arguments.json else as_toml(config)
    # Not print: a path that is not UTF-8 leaves as the bytes that it is on the disk.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def _schema(_arguments: argparse.Namespace) -> None:
    import json

    from holdstill.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
