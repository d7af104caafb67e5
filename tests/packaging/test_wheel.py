"""
What a user gets from ``pip install``: the wheel and the sdist, each in a virtual environment of its own.

Another package with a Twisted plugin is installed beside ours, before it: neither may hide the other, and Twisted
itself has to stay whole when ours goes away again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PLUGIN = "twisted/plugins/zktwisted_plugin.py"

NEIGHBOUR_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "neighbour"
version = "1"
[tool.hatch.build.targets.wheel]
only-include = ["twisted/plugins/neighbour_plugin.py"]
"""

NEIGHBOUR_PLUGIN = """
from twisted.application.service import ServiceMaker
neighbour = ServiceMaker("Neighbour", "twisted.runner.procmontap", "The plugin of somebody else.", "neighbour")
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program that has to succeed, and return all that it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def build(source: Path, target: Path, *kinds: str) -> None:
    """Build a project with the tools that the test extra installed."""
    run(sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", target, source, cwd=target)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with our sdist and the wheel that was built from it."""
    target = tmp_path_factory.mktemp("dist")
    build(ROOT, target)
    return target


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of another package that has a Twisted plugin."""
    source = tmp_path_factory.mktemp("neighbour")
    (source / "twisted" / "plugins").mkdir(parents=True)
    (source / "pyproject.toml").write_text(NEIGHBOUR_PROJECT)
    (source / "twisted" / "plugins" / "neighbour_plugin.py").write_text(NEIGHBOUR_PLUGIN)
    target = tmp_path_factory.mktemp("neighbour-dist")
    build(source, target, "--wheel")
    return next(target.glob("*.whl"))


def shipped(archive: Path) -> set[str]:
    """Return the paths in a wheel or sdist, without the sdist's top directory."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_contents(built: Path, kind: str) -> None:
    """Both carry the plugin, the marker for type checkers and the licence, and nothing that is Twisted's own."""
    names = shipped(next(built.glob(kind)))
    assert {PLUGIN, "zktwisted/py.typed", "zktwisted/tap.py"} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name for name in names if name.startswith("twisted/") and name.endswith(".py")} == {PLUGIN}
    assert not [name for name in names if name.endswith((".pyc", "dropin.cache"))]


def test_wheel_holds_no_tests(built: Path) -> None:
    """The wheel installs two top-level names and its metadata, nothing else."""
    names = shipped(next(built.glob("*.whl")))
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"twisted", "zktwisted"}


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_install(built: Path, neighbour: Path, kind: str, tmp_path: Path) -> None:
    """After a plain install the command is there, beside other plugins, and goes away without a trace."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python, twist = home / "bin" / "python", home / "bin" / "twist"
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")

    run(*install, "twisted", neighbour, cwd=tmp_path)
    before = run(twist, "--help", cwd=tmp_path)
    assert "neighbour" in before
    assert "zookeeper" not in before

    run(*install, next(built.glob(kind)), cwd=tmp_path)
    listed = run(twist, "--help", cwd=tmp_path)
    assert "neighbour" in listed
    assert "zookeeper" in listed
    options = run(twist, "zookeeper", "--help", cwd=tmp_path)
    for option in ("--config=", "--data-dir=", "--client-endpoint=", "--check-config"):
        assert option in options
    assert "\n  mirror " in run(home / "bin" / "zkt", "help", cwd=tmp_path)

    core = "from importlib.metadata import requires; print([r for r in requires('zktwisted') if 'extra' not in r])"
    assert run(python, "-c", core, cwd=tmp_path).strip() == "['twisted>=24.3', 'zope-interface>=5']"

    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "zktwisted", cwd=tmp_path)
    after = run(twist, "--help", cwd=tmp_path)
    assert "neighbour" in after
    assert "zookeeper" not in after


def test_sample_project(built: Path, tmp_path: Path) -> None:
    """With pytest and kazoo beside it, a project has the fixtures after a plain install, and nothing else to do."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*install, next(built.glob("*.whl")), "kazoo", "pytest", cwd=tmp_path)
    project = shutil.copytree(ROOT / "docs" / "examples" / "sample", tmp_path / "sample")
    assert "5 passed" in run(python, "-m", "pytest", "-q", cwd=project)
