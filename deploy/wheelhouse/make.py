"""Collect every wheel that a station needs, with hashes, and an installer that uses nothing else.

    python deploy/wheelhouse/make.py --target aarch64 --python 3.10 [--out FOLDER] [--extras ...]

For plants without a network. What is needed is resolved for the target, not for this machine: uv
evaluates the markers of another platform, pip alone does not. Wheels alone are taken, for glibc
2.28 and newer (Debian 10, Ubuntu 20.04). FOLDER then holds `wheels/`, `requirements.txt` with a
hash for each of them, `install.sh`, the units, and `SHA256SUMS`; it appears whole or not at all.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("x86_64", "aarch64")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = {"x86_64": "agent,cpu,openvino,http", "aarch64": "agent,cpu,http"}
"""OpenVINO is for Intel's processors, and its wheels for others want glibc 2.35."""
GLIBC = 28
"""Minor version of the oldest glibc 2 that is served."""


def main() -> None:
    """Make the folder; say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--python", choices=PYTHONS, required=True)
    parser.add_argument("--extras", help="of the distribution, with a comma; default: EXTRAS above")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out: Path = options.out or ROOT / "dist" / f"wheelhouse-{options.target}-py{options.python}"
    if out.exists() and not (out / "SHA256SUMS").is_file():
        parser.error(f"{out}: is there, and is no wheelhouse to be replaced; name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / out.name
        extras = options.extras or EXTRAS[options.target]
        fill(made, options.target, options.python, extras)
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)
    report(out)


def fill(folder: Path, target: str, python: str, extras: str) -> None:
    """Put everything into the folder."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    resolve(requirements, target, python, extras)
    download(requirements, wheels, target, python)
    ours = build(wheels)
    with requirements.open("a") as text:
        text.write(f"{ours.name.split('-')[0].replace('_', '-')}=={ours.name.split('-')[1]} ")
        text.write(f"--hash=sha256:{digest(ours)}\n")
    pip = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "pip"]  # it installs the rest
    run(sys.executable, "-m", "pip", *pip, "--dest", wheels)
    shutil.copy(Path(__file__).with_name("install.sh"), folder)
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    shutil.copy(ROOT / "docs" / "operations.md", folder)
    (folder / "target").write_text(f"MACHINE={target}\nPYTHON={python}\n")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [f"{digest(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


def resolve(requirements: Path, target: str, python: str, extras: str) -> None:
    """Write what the extras bring on the target, each version with the hashes of its files."""
    run(
        sys.executable,
        *("-m", "uv", "pip", "compile", "--quiet", ROOT / "pyproject.toml"),
        *(f"--extra={extra}" for extra in extras.split(",")),
        *("--constraint", ROOT / "constraints.txt", "--only-binary", ":all:"),
        *("--python-platform", f"{target}-manylinux_2_{GLIBC}", "--python-version", python),
        *("--generate-hashes", "--no-header", "--no-annotate", "--output-file", requirements),
    )


def download(requirements: Path, wheels: Path, target: str, python: str) -> None:
    """Fetch the wheels of the target, each held against its hashes."""
    run(
        sys.executable,
        *("-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--require-hashes", "--requirement", requirements, "--dest", wheels),
        *("--implementation", "cp", "--python-version", python),
        *(f"--platform={tag}" for tag in platforms(target)),
    )


def platforms(target: str) -> Iterator[str]:
    """Yield the tags of wheels that run there: pip takes those alone that it is told."""
    yield from (f"manylinux_2_{minor}_{target}" for minor in range(GLIBC, 4, -1))
    yield from (f"manylinux{year}_{target}" for year in ("2014", "2010", "1"))
    yield f"linux_{target}"


def build(wheels: Path) -> Path:
    """Build our own wheel, which is of every platform; return it."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT)
    [ours] = wheels.glob("ssn_inspect-*.whl")
    return ours


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def report(folder: Path) -> None:
    """Print what is there, with sizes."""
    wheels = sorted((folder / "wheels").iterdir(), key=lambda path: -path.stat().st_size)
    for path in wheels:
        print(f"{path.stat().st_size / 2**20:8.2f} MiB  {path.name}")
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {len(wheels)} wheels, {total / 2**20:.0f} MiB in all")


def run(*command: str | Path) -> None:
    """Run a command, or end with its message."""
    done = subprocess.run([str(word) for word in command], check=False)
    if done.returncode != 0:
        sys.exit(f"wheelhouse: {' '.join(map(str, command[:6]))} ... failed, as said above")


if __name__ == "__main__":
    main()
