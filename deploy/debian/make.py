"""Build the Debian package, for this machine's architecture and its system's Python.

    python deploy/debian/make.py [--out FOLDER] [--version 0.1.0] [--extras ...] [--wheelhouse ...]

Needs `apt-get install debhelper` and, unless a wheelhouse is given, the network. Lays a source
tree in a temporary folder and has debhelper make `ssn-agent_VERSION_ARCH.deb` of it, which goes to
FOLDER (`dist`). What the package does is in `files/`.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SYSTEM_PYTHON = "/usr/bin/python3"
CHANGELOG = """\
ssn-agent ({version}) stable; urgency=medium

  * Version {version}; see CHANGELOG.md of the source.

 -- SSN Inspect maintainers <maintainers@ssn-inspect.invalid>  {date}
"""


def main() -> None:
    """Make the package; say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--version", help="of the package; default: the distribution's")
    parser.add_argument("--extras", help="of the distribution; default: as a wheelhouse's")
    parser.add_argument("--wheelhouse", type=Path, help="a folder that is made already")
    options = parser.parse_args()
    if shutil.which("dh") is None:
        sys.exit("deb: debhelper is not installed: apt-get install debhelper")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".deb.") as folder:
        tree = Path(folder) / "tree"
        lay(tree, options.wheelhouse or make_wheelhouse(Path(folder), options.extras))
        version = options.version or version_of(tree / "wheelhouse")
        changelog = CHANGELOG.format(version=version, date=date())
        (tree / "debian" / "changelog").write_text(changelog)
        run("dpkg-buildpackage", "--build=binary", "--no-sign", cwd=tree)
        [package] = Path(folder).glob("ssn-agent_*.deb")
        package.replace(out / package.name)
    print(f"{out / package.name}: {(out / package.name).stat().st_size / 2**20:.0f} MiB")


def make_wheelhouse(folder: Path, extras: str | None) -> Path:
    """Collect the wheels for this machine and the system's Python; return their folder."""
    house = folder / "wheelhouse"
    asked = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    done = subprocess.run([SYSTEM_PYTHON, "-c", asked], check=True, capture_output=True, text=True)
    command = [sys.executable, str(ROOT / "deploy" / "wheelhouse" / "make.py"), "--out", str(house)]
    command += ["--target", platform.machine(), "--python", done.stdout.strip()]
    run(*command, *(["--extras", extras] if extras else []))
    return house


def lay(tree: Path, house: Path) -> None:
    """Put together what debhelper works on."""
    shutil.copytree(HERE / "files", tree / "debian")
    units = ROOT / "systemd"
    shutil.copy(units / "ssn-agent.service", tree / "debian" / "ssn-agent.service")
    for kind in ("sysusers", "tmpfiles"):
        shutil.copy(units / f"{kind}.d" / "ssn-agent.conf", tree / "debian" / f"ssn-agent.{kind}")
    (tree / "conf").mkdir()
    shutil.copy(HERE / "agent.toml", tree / "conf")
    shutil.copy(units / "ssn-agent.env", tree / "conf")
    shutil.copytree(ROOT / "docs", tree / "docs", ignore=shutil.ignore_patterns("adr", "*.json"))
    (tree / "wheelhouse").symlink_to(house.resolve())


def version_of(house: Path) -> str:
    """Return our wheel's version as Debian orders it: 0.2.0rc1 is 0.2.0~rc1, before 0.2.0."""
    [wheel] = (house / "wheels").glob("ssn_inspect-*.whl")
    return re.sub(r"(a|b|rc|\.dev)(?=\d)", r"~\1", wheel.name.split("-")[1])


def date() -> str:
    """Return when the source was committed: no file of the package is newer, whoever builds it."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "log", "-1", "--format=%cD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run(*command: str, cwd: Path = ROOT) -> None:
    """Run a command, or end with its message."""
    if subprocess.run(command, check=False, cwd=cwd).returncode != 0:
        sys.exit(f"deb: {' '.join(command[:3])} ... failed, as said above")


if __name__ == "__main__":
    main()
