"""The manual says what each alarm means: whoever is woken by one finds it there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.headings import headings

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "operations.md"
AGENT = ROOT / "agent" / "ssn_agent"

ALSO_ALARMS = {"station_status", "station_metrics", "_say"}
"""Functions that make alarms, beside those that are named for it."""
SHORT = 6
WORDS = 4


def section(title: str) -> str:
    text = MANUAL.read_text("utf-8")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def alarms() -> Iterator[tuple[str, str]]:
    """Yield, of each text that is made for an alarm, the first words of its longest fixed part."""
    for path in sorted(AGENT.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            if "alarm" in function.name or function.name in ALSO_ALARMS:
                for fixed in fixed_parts(function):
                    yield f"{path.relative_to(AGENT)}:{function.name}", fixed


def fixed_parts(function: ast.FunctionDef) -> Iterator[str]:
    texts = [node for node in ast.walk(function) if isinstance(node, ast.JoinedStr)]
    values = [node for node in ast.walk(function) if isinstance(node, ast.FormattedValue)]
    formats = {id(value.format_spec) for value in values}
    for text in texts:
        parts = [str(p.value) for p in text.values if isinstance(p, ast.Constant)]
        longest = max(parts, key=len, default="").strip()
        if id(text) not in formats and len(longest) >= SHORT:
            yield " ".join(longest.split()[:WORDS])


def test_every_alarm_of_the_code_is_in_the_table() -> None:
    found = list(alarms())
    assert len(found) >= 15
    table = section("What each alarm means and what to do")
    assert [(where, text) for where, text in found if text not in table] == []


@pytest.mark.parametrize("page", ["operations.md", "container.md", "jetson.md"])
def test_a_link_to_a_section_leads_to_one(page: str) -> None:
    docs = MANUAL.parent
    links = re.findall(r"\]\(([\w/.-]*)#([^)]+)\)", (docs / page).read_text("utf-8"))
    assert links
    found = [(docs / (target or page), anchor) for target, anchor in links]
    there = [(target, anchor) for target, anchor in found if target.exists()]
    assert [anchor for target, anchor in there if anchor not in headings(target)] == []
