"""Configured jobs: planned, run, and judged."""
