"""`python -m holdstill`."""

from holdstill.cli.main import console

console()
