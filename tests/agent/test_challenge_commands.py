"""`ssn-agent challenge` where no agent runs, and what it refuses; with one: the acceptance test."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ssn_agent.inference import challenge as rules
from ssn_agent.inference.challenge_state import Item, challenge_file, write_standing
from support.challenges import folders

Command = Callable[..., tuple[int, str, str]]
ITEM = Item(kind="part", expected="bad", name="MASTER-BAD")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    known = folders(tmp_path / "known")
    path = tmp_path / "agent.toml"
    path.write_text(
        f"data_dir = '{tmp_path}'\nruntime_dir = '{tmp_path}/run'\n"
        "[cameras.left.source]\nkind = 'folder'\npath = '/images'\n"
        f"[cameras.left]\nbundle = '{tmp_path}/a.ssn'\n"
        "[cameras.left.challenge]\nat = ['06:00']\n"
        f"good_images = '{known['good_images']}'\nbad_images = '{known['bad_images']}'\n"
        "[cameras.right.source]\nkind = 'folder'\npath = '/images'\n"
    )
    return path


def test_show_names_each_item_and_how_it_was_judged(
    ssn_agent: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    now = datetime.now(timezone.utc)
    write_standing(challenge_file(tmp_path, "left"), rules.begun((ITEM,), now))
    code, out, _ = ssn_agent("challenge", "show", "-c", str(config))
    assert code == 0
    assert "MASTER-BAD" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "--camera", "right"), 2, "right: no camera with a challenge"),
        (("show",), 1, "left: was never challenged"),
        (("run", "left"), 3, "no agent runs"),
        (("clear", "left", "--by", "anna", "--reason", "why"), 3, "no agent runs"),
    ],
)
def test_what_cannot_be_done_is_said(
    ssn_agent: Command, config: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    found, _, err = ssn_agent("challenge", *arguments, "-c", str(config))
    assert (found, said in err) == (code, True), err


def test_show_says_so_where_no_camera_has_a_challenge(ssn_agent: Command, tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[cameras.left.source]\nkind = 'folder'\npath = '/images'\n")
    code, out, _ = ssn_agent("challenge", "show", "-c", str(path))
    assert (code, out) == (0, "no camera has a challenge\n")


def test_nobody_clears_without_a_name_and_a_reason(ssn_agent: Command, config: Path) -> None:
    assert ssn_agent("challenge", "clear", "left", "-c", str(config))[0] == 2
    assert ssn_agent("challenge", "clear", "left", "--by", "anna", "-c", str(config))[0] == 2


def test_config_check_reads_the_pictures(ssn_agent: Command, config: Path, tmp_path: Path) -> None:
    assert ssn_agent("config", "check", "-c", str(config))[0] == 0
    (tmp_path / "known" / "bad" / "bad.png").write_text("none")
    code, _, err = ssn_agent("config", "check", "-c", str(config))
    assert (code, "cameras.left.challenge.bad_images: " in err) == (2, True)
