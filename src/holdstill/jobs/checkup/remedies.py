"""What to do about what the checks themselves find; others come with the errors that they meet.

docs/doctor.md lists each, word for word, with capitals for what is in braces.
"""

from __future__ import annotations

SUDO = "run it with sudo"
CONFIGURATION = "correct {path}, or make what it names"
OWN_FILE = "chown root {path}; chmod go-w {path}"
HIDE_FILE = "chmod o= {path}"
FILL_FILE = "write the repository's password into {path}"
FIND_FILE = "see that {path} is there, or correct the configuration"
CAPABILITY = "run it with sudo; in a unit, CapabilityBoundingSet= has to list CAP_{capability}"
NAMESPACE = "run it on the machine itself, or in a container that has no users of its own"
BTRFS = "modprobe btrfs, or install a kernel that has it"
NEWER_KERNEL = "update the kernel: Linux {release} or newer"
SET_CLOCK = "set the clock: timedatectl set-ntp true"
DIRECTORY = "make it writable, or name another one with {key} in the configuration"
LOCKS = "make most of runtime-directory, state-directory and cache-directory writable"
TEMPORARY = "make room there, or name another one with TMPDIR in the unit's environment"
FREE_DISK = "free some space on its disk"
CACHE_OWNER = "rm -r {path}; restic makes it anew"
NEWER_RESTIC = "install restic {release} or newer"
CREDENTIAL = (
    "run it as the unit is: systemd-run --pipe -p LoadCredential={name}:FILE holdstill doctor"
)
HUNG = "see whether it is its disk or its server: dmesg, ps, ping"
UNREACHABLE = "see whether its host is up, and why this does not end: {reach} -- cat config"
UNLOCK = "{reach} -- unlock"
REPOSITORY_OWNER = "see who owns {path}, and as whom restic runs (the job's run-as)"
REPOSITORY_SPACE = "free some space there, or let the job keep fewer backups"
SWEEP = "holdstill sweep"
LOOK_AT_IT = "look at what lies there, then run: holdstill sweep"
HISTORY = "holdstill history {job}"
SCHEDULE = "holdstill schedule install {job}"
NO_SCHEDULE = "add a schedule, or see that cron runs: holdstill backup {job}"
ENABLE = "systemctl enable {timer}"
CALENDAR = "see when it is to start: systemctl cat {timer}"
METADATA = "free some space, and give unused chunks back: btrfs balance start -dusage=10 {path}"
DATA = "free some space: btrfs filesystem usage {path} shows what is used"
ACTIVE = "run it again when that has ended"
ANOTHER_RESTIC = "see which restic comes first in PATH, and whether it runs here"
REPORT = "please report it"
