"""No secret of a repository is shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdstill.restic.redaction import redacted, secrets_in


def test_secrets_are_found_by_where_they_stand() -> None:
    """A URL's password, quoted or not, and variables that are named like secrets."""
    environment = {
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "B2_ACCOUNT_KEY": "b2",
        "RESTIC_PASSWORD": "correct horse",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "OS_TOKEN": "",
    }
    found = secrets_in("rest:https://u:p%40ss@nas/", environment)
    assert set(found) == {"aws-secret", "b2", "correct horse", "p%40ss", "p@ss"}


@given(
    st.dictionaries(st.sampled_from(["A_KEY", "B_SECRET", "C_PASSWORD"]), st.text(min_size=1)),
    st.lists(st.text()),
)
def test_no_secret_survives_in_any_text(environment: dict[str, str], words: list[str]) -> None:
    """Also not one that contains another."""
    secrets = secrets_in("/srv/restic", environment)
    shown = redacted("".join([*words, *environment.values(), *words]), secrets)
    assert not any(secret in shown for secret in secrets if "*" not in secret)
