"""What the installer for a station without a network does, and before it installs anything."""

import ensurepip
import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

MAKER = Path(__file__).parents[2] / "deploy" / "wheelhouse" / "make.py"
INSTALLER = MAKER.with_name("install.sh")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder for this machine with nothing in it to install."""
    folder = tmp_path / "house"
    (folder / "wheels").mkdir(parents=True)
    (folder / "install.sh").write_bytes(INSTALLER.read_bytes())
    (folder / "requirements.txt").write_text("nothing==1\n")
    (folder / "target").write_text(f"MACHINE={platform.machine()}\nPYTHON={PYTHON}\n")
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"
    )
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}" for p in files]
    (folder / "SHA256SUMS").write_text("\n".join(sums) + "\n")


def put_wheels(house: Path) -> None:
    """Put a wheel there whose program is called as ours, and pip to install it."""
    [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    shutil.copy(pip, house / "wheels")
    wheel, about = house / "wheels" / "nothing-1-py3-none-any.whl", "nothing-1.dist-info"
    files = {
        "nothing.py": "def main() -> None:\n    print('ssn-agent 1')\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: nothing\nVersion: 1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nssn-agent = nothing:main\n",
    }
    with ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(
            f"{about}/RECORD", "".join(f"{n},,\n" for n in (*files, f"{about}/RECORD"))
        )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (house / "requirements.txt").write_text(f"nothing==1 --hash=sha256:{digest}\n")
    seal(house)


def install(house: Path, prefix: Path) -> "subprocess.CompletedProcess[str]":
    command = ["sh", str(house / "install.sh"), str(prefix)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_a_folder_for_another_machine_is_refused(house: Path, tmp_path: Path) -> None:
    (house / "target").write_text(f"MACHINE=riscv64\nPYTHON={PYTHON}\n")
    done = install(house, tmp_path / "agent")
    assert done.returncode == 1
    assert "this folder is for riscv64, this machine is" in done.stderr
    assert not (tmp_path / "agent").exists()


def test_a_python_that_is_not_here_is_named(house: Path, tmp_path: Path) -> None:
    (house / "target").write_text(f"MACHINE={platform.machine()}\nPYTHON=3.99\n")
    done = install(house, tmp_path / "agent")
    assert done.returncode == 1
    assert "there is no python3.99 here" in done.stderr


def test_what_is_installed_already_stays(house: Path, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "kept").touch()
    done = install(house, tmp_path / "agent")
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert (tmp_path / "agent" / "kept").exists()


@pytest.mark.parametrize("fault", ["altered", "missing"])
def test_a_damaged_folder_installs_nothing(fault: str, house: Path, tmp_path: Path) -> None:
    file = house / "requirements.txt"
    if fault == "altered":
        file.write_text("another==1\n")
    else:
        file.unlink()
    done = install(house, tmp_path / "agent")
    assert done.returncode == 1
    assert "damaged or missing" in done.stderr
    assert not (tmp_path / "agent").exists()


def test_an_installation_that_fails_leaves_nothing_behind(house: Path, tmp_path: Path) -> None:
    done = install(house, tmp_path / "agent")  # the wheel that is to install the others is missing
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == [house]


def test_what_is_installed_runs_and_is_the_service_users_too_whatever_roots_umask(
    house: Path, tmp_path: Path
) -> None:
    put_wheels(house)
    command = ["sh", str(house / "install.sh"), f"{tmp_path / 'agent'}/"]  # as a shell completes it
    done = subprocess.run(command, check=False, capture_output=True, text=True, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert "ssn-agent 1" in done.stdout
    program = tmp_path / "agent" / "bin" / "ssn-agent"
    assert subprocess.run([program], check=True, capture_output=True).stdout == b"ssn-agent 1\n"
    closed = [
        path for path in (tmp_path / "agent").rglob("*") if path.stat().st_mode & 0o44 != 0o44
    ]
    assert closed == []
    assert (tmp_path / "agent").stat().st_mode & 0o55 == 0o55


def test_a_folder_that_is_no_wheelhouse_is_never_replaced_by_one(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    command = [sys.executable, str(MAKER), "--target=x86_64", "--python=3.11", f"--out={tmp_path}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "is no wheelhouse to be replaced" in done.stderr
    assert (tmp_path / "kept").exists()
