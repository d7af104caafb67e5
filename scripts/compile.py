"""
A build hook of hatchling: compiles the hot modules with mypyc, where the environment asks for it.

    ZKTWISTED_COMPILE=1 pip install .

Without that variable nothing happens here, and the wheel is pure Python.  With it the wheel fits one version of Python
on one platform, and a C compiler is needed; mypy and what the types come from are fetched for the build alone.  The
Python sources stay in the wheel: C{ZKTWISTED_COMPILE} unset and installed again, they are what runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What a request passes on its way; all of these import one another, so that they gain by being compiled together.
#: Not the core and not Prepare: methods of these are replaced by whoever wants to listen in, as the checkers of
#: L{zktwisted.testing} do, and compiled objects do not allow it.
MODULES = (
    "edge/connection edge/protocol edge/requests "
    "server/admission server/leader server/learner server/namespaces server/processors "
    "server/readonly server/replies server/roles server/standalone server/sync store/txnlog "
    "tree/acl tree/datatree tree/fused tree/paths tree/proposal tree/reads tree/replay tree/sessions "
    "tree/watches tree/znode wire/quorum "
    "zab/effects zab/joining zab/leader zab/learner zab/links zab/machine zab/observer_master zab/quorum zab/sync"
).split()


def asked_for() -> bool:
    """Say whether the environment asks for compiled modules."""
    return os.environ.get("ZKTWISTED_COMPILE", "") not in ("", "0")


class CompileHook(BuildHookInterface[Any]):
    """Puts compiled modules beside the Python ones."""

    PLUGIN_NAME = "custom"
    _work: str | None = None

    def dependencies(self) -> list[str]:
        """What a build needs besides hatchling."""
        return ["mypy-zope>=1.0.7", "setuptools>=69", "twisted>=24.3"] if asked_for() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the results as parts of the wheel."""
        if version == "editable" or not asked_for():
            return
        # Away from the sources: mypyc leaves much behind.  Bytecode may come and go while others run there.
        work = Path(mkdtemp(prefix="zktwisted-compile-"))
        self._work = str(work)
        unwanted = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(Path(self.root) / "zktwisted", work / "zktwisted", ignore=unwanted)
        # What is not compiled is not judged either: which stubs there are is the machine's affair.
        settings = "[mypy]\nplugins = mypy_zope:plugin\nfollow_imports = silent\n"
        (work / "mypy.ini").write_text(settings, encoding="utf-8")
        paths = [f"zktwisted/{module}.py" for module in MODULES]
        subprocess.run(
            [sys.executable, "-m", "mypyc", "--ignore-missing-imports", *paths],
            cwd=work,
            env={"MYPYC_OPT_LEVEL": "3", **os.environ},
            check=True,
        )
        made = [path for pattern in ("*.so", "zktwisted/**/*.so") for path in work.glob(pattern)]
        if len(made) != len(MODULES) + 1:  # one for each module, and the library that holds them all
            raise RuntimeError(f"mypyc has made {len(made)} libraries of {len(MODULES)} modules")
        for path in made:
            build_data["force_include"][str(path)] = str(path.relative_to(work))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made: throw the rest away."""
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
