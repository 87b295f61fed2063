"""The kernel's edge: mounts, namespaces, btrfs, capabilities, locks; ctypes is imported here."""
