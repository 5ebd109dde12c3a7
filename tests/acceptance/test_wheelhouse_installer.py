"""What the installer for a station without a network does before it installs anything."""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[2] / "deploy" / "wheelhouse" / "install.sh"
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
