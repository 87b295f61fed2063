"""Writes man pages and shell completions, both from the program's own parser.

`docs.py DIRECTORY` fills it like a `share` directory: `man/man1`, `bash-completion/completions`,
`zsh/site-functions` and `fish/vendor_completions.d`.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import shtab
from argparse_manpage.manpage import Manpage

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPLETIONS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
COMPLETED_AS = {"PATH": shtab.FILE, "FILE": shtab.FILE, "DIRECTORY": shtab.DIRECTORY}


def write_docs(parser: argparse.ArgumentParser, share: Path) -> list[Path]:
    """Write every completion and man page of `parser` below `share`; return their paths."""
    return [*_write_completions(parser, share), *_write_man_pages(parser, share / "man/man1")]


def _write_man_pages(parser: argparse.ArgumentParser, directory: Path) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    commands = list(commands_of(parser))
    for name, summary, command in commands:
        yield _write(directory / f"{name}.1", str(_page(command, name, summary)))
    summaries = {name: summary for name, summary, _ in commands}
    yield _write(directory / f"{parser.prog}.1", str(_overview(parser, summaries)))


def commands_of(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield page name, summary and parser of every command that `--help` lists."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield f"{parser.prog}-{choice.dest}", choice.help or "", action.choices[choice.dest]


def _page(parser: argparse.ArgumentParser, name: str, summary: str, commands: str = "") -> Manpage:
    epilog, parser.epilog = parser.epilog, None
    page = Manpage(parser)
    page.prog = name
    page.date = ""  # the same source makes the same page, whenever it is built
    page.source = page.manual = parser.prog.partition(" ")[0]
    page.description = summary
    if commands:
        page.add_section("COMMANDS", ">", commands)
    for heading, text in _sections(epilog or ""):
        page.add_section(heading, ">", f".nf\n{_escaped(text)}\n.fi")
    return page


def _overview(parser: argparse.ArgumentParser, summaries: dict[str, str]) -> Manpage:
    """Make the page of the program itself: it names its commands, their own pages explain them."""
    about = (parser.description or "").partition("\n")[0].rstrip(".")
    commands = [
        f".TP\n\\fB{_escaped(name)}\\fR(1)\n{_escaped(summary)}"
        for name, summary in summaries.items()
    ]
    page = _page(parser, parser.prog, about, "\n".join(commands))
    page.synopsis = [parser.prog, "[OPTIONS]", "COMMAND", "[ARGUMENTS]"]
    parser._action_groups = [
        group
        for group in parser._action_groups
        if not any(isinstance(a, argparse._SubParsersAction) for a in group._group_actions)
    ]
    return page


def _sections(epilog: str) -> Iterator[tuple[str, str]]:
    """Split an epilog, `exit status:` and indented lines, say, into headings and texts."""
    for match in re.finditer(r"^(\S.*):\n((?:[ \t].*(?:\n|\Z)|\n)+)", epilog, re.MULTILINE):
        yield match[1], match[2].rstrip()


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def _write_completions(parser: argparse.ArgumentParser, share: Path) -> Iterator[Path]:
    parser = copy.deepcopy(parser)
    for _, summary, command in commands_of(parser):
        command.description = summary  # a shell shows it in one line
    _complete_files(parser)
    for shell, pattern in COMPLETIONS.items():
        path = share / pattern.format(parser.prog)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield _write(path, shtab.complete(parser, shell) + "\n")


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Give arguments that are called PATH, FILE or DIRECTORY the shell's own file completion."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif action.metavar in COMPLETED_AS:
            action.complete = COMPLETED_AS[action.metavar]  # type: ignore[attr-defined]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    from holdstill.cli.main import build_parser

    for written in write_docs(build_parser(), Path(sys.argv[1])):
        print(written)
