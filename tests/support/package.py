"""The Debian package as `make deb` builds it, and others that stand for newer versions of it."""

import shutil
import subprocess
import sys
from pathlib import Path

from support.nspawn import REPOSITORY

BUILDER = REPOSITORY / "deploy" / "debian" / "make.py"


def build(folder: Path) -> Path:
    """Build it, without OpenVINO and the HTTP API, to be quicker; return the file."""
    command = [sys.executable, str(BUILDER), "--out", str(folder), "--extras", "agent,cpu"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    [package] = folder.glob("ssn-agent_*.deb")
    return package


def field(package: Path, name: str) -> str:
    """Return a field of its control file."""
    command = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Source:
    """A package unpacked, to make newer ones of it: the same but for what a test adds."""

    def __init__(self, package: Path, folder: Path) -> None:
        self._folder = folder
        self.version = field(package, "Version")
        subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
        [self._migrations] = folder.glob(
            "opt/ssn-agent/lib/python3.*/site-packages/ssn_agent/ledger/migrations/versions"
        )
        self.head = max(path.stem.split("_")[0] for path in self._migrations.glob("0*.py"))

    def newer(self, number: int, migration: str | None = None) -> Path:
        """Make a newer version, with a migration 9999 of these functions; return the file."""
        version = f"{self.version}+{number}"
        out = self._folder.parent / f"ssn-agent_{version}.deb"
        tree = self._folder.parent / version
        shutil.copytree(self._folder, tree, symlinks=True, copy_function=_link)
        names = {
            f'"{self.version}"': f'"{version}"',
            f"Version: {self.version}\n": f"Version: {version}\n",
        }
        if migration is not None:
            names[f'"{self.head}"'] = '"9999"'
            added = tree / self._migrations.relative_to(self._folder) / "9999_test.py"
            added.write_text(
                "from alembic import op\n"
                f"revision = '9999'\ndown_revision = '{self.head}'\n{migration}"
            )
        for path in (tree / "DEBIAN" / "control", tree / "DEBIAN" / "preinst"):
            text, mode = path.read_text(), path.stat().st_mode
            for old, new in names.items():
                text = text.replace(old, new)
            path.unlink()  # it is a link to the other versions' one
            path.write_text(text)
            path.chmod(mode)
        command = [
            "dpkg-deb",
            "--root-owner-group",
            "-Zzstd",
            "-z1",
            "--build",
            str(tree),
            str(out),
        ]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(tree)
        return out


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
