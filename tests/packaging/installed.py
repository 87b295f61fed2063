"""What holds on every machine on which holdstill is installed, whatever the way."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from holdstill.cli.main import COMMANDS
from tests.kernel.private_root import CHECKOUT

if TYPE_CHECKING:
    from tests.packaging.machine import Machine

PROJECT = tomllib.loads(Path(CHECKOUT, "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]

CONFIGURATION = {"/etc/holdstill/config.toml", "/etc/holdstill/nas.password"}
HISTORY = "/var/lib/holdstill/history.sqlite"
STAYS = ("/etc/holdstill/", "/var/lib/holdstill/", "/var/cache/holdstill/")
"""What no removal takes, by docs/install.md."""

_BASH = """
. /usr/share/bash-completion/bash_completion
{ _comp_load holdstill || _completion_loader holdstill; } 2>/dev/null || true
complete -p holdstill
COMP_WORDS=(holdstill sta) COMP_CWORD=1 COMP_LINE='holdstill sta' COMP_POINT=13
_shtab_holdstill holdstill sta holdstill
echo "${COMPREPLY[@]}"
"""
_RENDER = """
where=$(man --where $page)
echo $where
man --warnings --local-file $where | grep --quiet --ignore-case 'exit status'
"""
_ZSH = """
autoload -Uz compinit
compinit -u -d /tmp/zcompdump
autoload +X $_comps[holdstill]
echo $_comps[holdstill]
"""

_CONFIGURATION = """
repositories.nas = { url = "/srv/backups", password-file = "/etc/holdstill/nas.password" }
jobs.data = { paths = ["/media"], repositories = ["nas"] }
"""
_BACKUP = """
truncate --size 256M /srv/disk
mkfs.btrfs --quiet /srv/disk
mount -o loop /srv/disk /media
echo kept still >/media/file
holdstill restic data -- init
holdstill backup data
restic --no-cache -r /srv/backups -p /etc/holdstill/nas.password dump latest /media/file
"""


def check_program(machine: Machine, path: str) -> None:
    """Find it in PATH, and run it with what was installed with it."""
    assert machine.succeed("command -v holdstill") == path
    assert machine.succeed("holdstill --version") == f"holdstill {VERSION}"
    assert machine.succeed("holdstill --help").startswith("usage: holdstill")
    assert machine.succeed("holdstill config schema").startswith("{")  # by msgspec
    done = machine.run("holdstill config check")
    assert "/etc/holdstill/config.toml" in done.stderr
    assert done.returncode == 78


def check_man_pages(machine: Machine) -> None:
    """Find one for the program and for each command; groff renders them without complaint."""
    pages = ["holdstill", *(f"holdstill-{command}" for command in COMMANDS)]
    done = machine.run(f"for page in {' '.join(pages)}; do\n{_RENDER}\ndone")
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.rpartition("/")[2].partition(".1")[0] for line in done.stdout.splitlines()]
    assert found == pages


def check_completions(machine: Machine) -> None:
    """Let every shell find them where it looks by itself, and offer a command."""
    assert machine.succeed(f"bash --norc <<'END'\n{_BASH}\nEND").splitlines()[1:] == ["status"]
    assert machine.succeed(f"zsh -f <<'END'\n{_ZSH}\nEND") == "_holdstill"
    # fish looks below /usr/local/share where a session says so, as desktops do.
    data = "XDG_DATA_DIRS=/usr/local/share:/usr/share"
    assert machine.succeed(f"{data} fish -c 'complete -C \"holdstill sta\"'").startswith("status\t")


def check_backup(machine: Machine) -> None:
    """Back up a file of a btrfs on a loop device, and read it with plain restic.

    Leaves configuration, history and cache.
    """
    machine.write("/etc/holdstill/nas.password", "secret", 0o600)
    machine.write("/etc/holdstill/config.toml", _CONFIGURATION)
    assert machine.succeed(_BACKUP).splitlines()[-1] == "kept still"
    machine.succeed("rm -r /srv/backups /srv/disk")
