"""The command line: one file per command; `main` is the only place that catches errors."""
