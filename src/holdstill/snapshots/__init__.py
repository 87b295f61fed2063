"""What can be frozen, one module per file system: observed, snapshotted, and removed again."""
