"""A job's retention applies to its own backups alone."""

from __future__ import annotations

import pytest

from holdstill.config.load import parse
from holdstill.errors import ConfigurationError


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        ('paths = ["/a"]', 'paths = ["/a"]', True),
        ('paths = ["/a"]', 'paths = ["/a", "/b"]', True),
        ('paths = ["/a", "/b"]', 'paths = ["/a"]', False),
        ('paths = ["/a"]', 'paths = ["/b"]', False),
        ('paths = ["/a"]\ntags = ["x"]', 'paths = ["/a"]\ntags = ["x", "y"]', True),
        ('paths = ["/a"]\ntags = ["x"]', 'paths = ["/a"]\ntags = ["y"]', False),
        ('paths = ["/a"]\ntags = ["x"]', 'paths = ["/a"]', False),
        ('paths = ["/a"]', 'paths = ["/a"]\ntags = ["x"]', False),
    ],
)
def test_retention_never_reaches_another_job(first: str, second: str, reached: bool) -> None:
    """A job's filters must match no other job's backups in a repository that both use."""
    text = (
        '[repositories.r]\nurl = "/r"\npassword-file = "/p"\n'
        f'[jobs.one]\nrepositories = ["r"]\n{first}\n[jobs.one.keep]\nlast = 1\n'
        f'[jobs.two]\nrepositories = ["r"]\n{second}\n'
    )
    if reached:
        with pytest.raises(ConfigurationError, match=r"jobs\.one\.keep: .*job two"):
            parse(text.encode(), "f", {})
    else:
        assert parse(text.encode(), "f", {}).jobs.keys() == {"one", "two"}
