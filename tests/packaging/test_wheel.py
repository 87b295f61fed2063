"""The wheel and the source distribution: complete, valid, and made by nothing but themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.metadata import Metadata

from holdstill.cli.main import COMMANDS
from tests.kernel.private_root import CHECKOUT
from tests.packaging.installed import PROJECT, VERSION

if TYPE_CHECKING:
    from tests.packaging.machine import Machine

STEM = f"holdstill-{VERSION}"


@pytest.fixture
def wheel(packages: Path) -> zipfile.ZipFile:
    """Open the wheel."""
    return zipfile.ZipFile(packages / f"dist/{STEM}-py3-none-any.whl")


@pytest.fixture
def source(packages: Path, tmp_path: Path) -> Path:
    """Unpack the source distribution."""
    with tarfile.open(packages / f"dist/{STEM}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / STEM


def test_the_wheel_holds_the_program_and_what_belongs_to_it(wheel: zipfile.ZipFile) -> None:
    """Modules and their types, licence, man pages and completions, each once; no tests or tools."""
    names = set(wheel.namelist())
    assert len(names) == len(wheel.namelist())
    modules = Path(CHECKOUT, "src").rglob("*.py")
    assert {str(path.relative_to(f"{CHECKOUT}/src")) for path in modules} <= names
    assert {"holdstill/py.typed", f"{STEM}.dist-info/licenses/LICENSE"} <= names
    share = f"{STEM}.data/data/share"
    pages = {f"{share}/man/man1/holdstill-{command}.1" for command in COMMANDS}
    assert pages | {f"{share}/man/man1/holdstill.1"} <= names
    assert f"{share}/bash-completion/completions/holdstill" in names
    assert f"{share}/zsh/site-functions/_holdstill" in names
    assert f"{share}/fish/vendor_completions.d/holdstill.fish" in names
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"holdstill", f"{STEM}.data", f"{STEM}.dist-info"}


def test_nothing_in_the_wheel_tells_where_it_was_built(wheel: zipfile.ZipFile) -> None:
    """No path of the checkout."""
    found = [name for name in wheel.namelist() if CHECKOUT.encode() in wheel.read(name)]
    assert found == []


_EXTRAS = [
    f'{requirement}; extra == "{extra}"'
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items()
    for requirement in requirements
]


def test_the_metadata_is_valid(wheel: zipfile.ZipFile, source: Path) -> None:
    """By the rules of the index, and with what the project says of itself."""
    texts = wheel.read(f"{STEM}.dist-info/METADATA"), (source / "PKG-INFO").read_bytes()
    for text in texts:
        metadata = Metadata.from_email(text, validate=True)
        assert (metadata.name, str(metadata.version)) == ("holdstill", VERSION)
        assert metadata.description_content_type == "text/markdown"
        assert metadata.license_expression == "Apache-2.0"
        required = sorted(map(str, metadata.requires_dist or ()))
        assert required == sorted([*PROJECT["project"]["dependencies"], *_EXTRAS])


def test_the_source_distribution_alone_makes_the_same_wheel(
    machine: Machine, wheel: zipfile.ZipFile
) -> None:
    """In a new environment with what pyproject.toml requires, and nothing else."""
    machine.succeed(f"uv build --python /usr/bin/python3 --wheel -o /opt dist/{STEM}.tar.gz")
    with zipfile.ZipFile(f"{machine.base}/upper/opt/{STEM}-py3-none-any.whl") as made:
        contents = {name: made.read(name) for name in made.namelist()}
    assert contents == {name: wheel.read(name) for name in wheel.namelist()}


def test_what_the_build_requires_is_pinned() -> None:
    """`make install` builds with requirements/build.txt, and has no other build environment."""
    pinned = Path(CHECKOUT, "requirements/build.txt").read_text(encoding="utf-8")
    required = {re.split("[<>=]", one)[0] for one in PROJECT["build-system"]["requires"]}
    assert required <= set(re.findall(r"^([\w-]+)==", pinned, re.MULTILINE))


def test_the_source_distribution_holds_what_its_makefile_needs(source: Path) -> None:
    """Whoever unpacks it can install, build, read and test it."""
    names = {path.name for path in source.iterdir()}
    assert {"Makefile", "debian", "docs", "requirements", "src", "tests", "tools"} <= names


def test_a_wheel_carries_the_files_of_share(source: Path, tmp_path: Path) -> None:
    """Alert rules and dashboards, say, in share/holdstill."""
    (source / "share/alerts").mkdir(parents=True)
    (source / "share/alerts/rules.yml").write_text("groups: []\n", encoding="utf-8")
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path)
    subprocess.run([*build, source], check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / f"{STEM}-py3-none-any.whl") as made:
        assert f"{STEM}.data/data/share/holdstill/alerts/rules.yml" in made.namelist()
