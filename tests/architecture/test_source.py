"""What holds for the source as a whole."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "agent" / "ssn_agent"
TRAINER = ROOT / "trainer" / "ssn_trainer"
PACKAGES = (ROOT / "agent" / "ssn_contract", AGENT, TRAINER)

AGENT_FOLDERS = {
    *("capture", "frames", "inference", "ledger", "publish", "labels", "bundles", "supervisor"),
    *("updates", "capture/drivers", "inference/engines", "metrics", "demo", "commissioning"),
    *("replay", "provision", "doctor"),
}
TRAINER_FOLDERS = {
    *("data", "model", "fit", "measure", "pack", "pack/compile", "bench", "publish"),
}
LATER: set[Path] = set()
"""Named in the layout, and nothing of theirs is there yet."""

MAX_LINES = 400
LONGER = {
    "agent/ssn_agent/frames/layout.py": 450,  # the byte table and its code, in one place
    "agent/ssn_contract/messages.py": 450,  # what crosses the broker, in one place
    "agent/ssn_agent/demo/line.py": 500,  # one drawing, from belt to defects
}
MAX_FILE_BYTES = 2**20
DEMO_BUNDLE = "agent/ssn_agent/demo/*.ssn"
MAX_DEMO_BUNDLE_BYTES = 8 * 2**20

UNSAFE_MODULES = {
    *("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"),
    "multiprocessing",  # its queues and pipes pickle
}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "torch.save", "torch.jit.load", "yaml.load"}


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def package_folders() -> list[Path]:
    """Return the folders that hold modules; migrations are scripts that Alembic runs."""
    return sorted({p.parent for p in modules() if "migrations" not in p.parts} - set(PACKAGES))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run(
        [program, "--config", ROOT / "pyproject.toml", "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


def test_the_folders_are_those_of_the_layout() -> None:
    designed = {AGENT / folder for folder in AGENT_FOLDERS}
    designed |= {TRAINER / folder for folder in TRAINER_FOLDERS}
    assert set(package_folders()) == designed - LATER


@pytest.mark.parametrize("folder", [*PACKAGES, *package_folders()], ids=name)
def test_a_package_says_what_it_is_for(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text("utf-8"))
    assert ast.get_docstring(tree)


def test_a_folder_with_process_py_is_a_process_and_the_others_are_libraries() -> None:
    started = {path for path in modules() if AGENT in path.parents and _is_started(path)}
    processes = {path for path in modules() if AGENT in path.parents and path.name == "process.py"}
    assert {path.parent.name for path in processes} == {
        *("capture", "inference", "labels", "ledger", "updates")
    }
    helpers = {
        AGENT / "ledger" / "prepare.py",
        AGENT / "inference" / "trial.py",
        AGENT / "updates" / "shadow.py",
    }
    commands = {AGENT / "cli.py", AGENT / "labels" / "openapi.py"}
    assert started - processes == commands | helpers
    assert processes <= started


def _is_started(path: Path) -> bool:
    body = ast.parse(path.read_text("utf-8")).body
    conditions = [ast.unparse(node.test) for node in body if isinstance(node, ast.If)]
    return "__name__ == '__main__'" in conditions


@pytest.mark.parametrize("path", modules(), ids=name)
def test_a_module_has_one_job_and_not_too_many_lines(path: Path) -> None:
    limit = LONGER.get(name(path), MAX_LINES)
    assert len(path.read_text("utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", modules(), ids=name)
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    imported = {module.partition(".")[0] for module in _imports(tree)}
    assert not imported & UNSAFE_MODULES
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & UNSAFE_CALLS
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False"


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_every_committed_file_is_small() -> None:
    listed = subprocess.run(
        # A checkout that belongs to another user, as in a container, is read all the same.
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(line) for line in listed.stdout.split("\0") if line]
    assert paths
    for path in paths:
        limit = MAX_DEMO_BUNDLE_BYTES if path.match(DEMO_BUNDLE) else MAX_FILE_BYTES
        if (ROOT / path).exists():
            assert (ROOT / path).stat().st_size <= limit, path
