"""The disks of the kernel's tests, of which processes die here."""

from tests.kernel.conftest import arena, disk, session_disk, source, whole_arena

__all__ = ["arena", "disk", "session_disk", "source", "whole_arena"]
