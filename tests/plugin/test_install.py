"""An editable install, as `pip install -e .` makes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT

BUILD = (
    "import sys; from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"
)
LOOK = """
import os, site, sys
own = lambda path: path and os.path.isfile(os.path.join(path, "charembed", "__init__.py"))
sys.path[:] = [path for path in sys.path if not own(path)]  # without the environment's own editable install
site.addsitedir(sys.argv[1])
import charembed
print(charembed.attach and charembed.__file__)
"""


def test_from_the_folder_that_holds_the_checkout_the_installed_package_is_found(
    tmp_path: Path,
) -> None:
    """In that folder Python could take the checkout's folder for an empty package `charembed`."""
    checkout, site = tmp_path / "charembed", tmp_path / "site"
    shutil.copytree(
        ROOT / "charembed", checkout / "charembed", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path], cwd=checkout, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, site], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(checkout / "charembed" / "__init__.py"), done.stderr
