#!/usr/lib/holdstill/bin/python3 -I
"""The program, with its own libraries alone: no variable of the caller's adds others (-I)."""

from holdstill.__main__ import console

console()
