"""What all tests share: what they need of the machine, and a broker of their own."""

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from support.mosquitto import SEARCH_PATH, Mosquitto, running_mosquitto

REQUIRE_ALL = os.environ.get("SSN_REQUIRE_ALL") == "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose system package is not there."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if shutil.which(name, path=SEARCH_PATH) is None:
                pytest.skip(f"{name} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SSN_REQUIRE_ALL=1 a skip is a failure, but for what needs a GPU."""
    report = yield
    if REQUIRE_ALL and report.skipped and item.get_closest_marker("gpu") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped although SSN_REQUIRE_ALL=1: {report.longrepr}"
    return report


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker; the test carries `@pytest.mark.needs("mosquitto")`."""
    with running_mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture
def ssn_agent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; return exit code, standard output and standard error."""

    from ssn_agent import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ssn-agent", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, out, err

    return run
