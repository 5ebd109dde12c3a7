"""A row that misses a bar says so, in the file and on the page."""

from pathlib import Path

from chaos.report import Row, at_least, at_most, read_rows, witnessed, write_report
from chaos.tally import Evidence, tally

ROW = Row(name="kill-capture", fault="SIGKILL of capture", counts="chaos", times=2)


def test_rows_are_read_as_they_were_written_and_a_missed_bar_is_shown(tmp_path: Path) -> None:
    rows = [
        witnessed(ROW, tally(Evidence()), [1.0, 4.5], within_s=3.0),
        ROW.model_copy(update={"name": "other", "bars": [at_least("rate", 2.0, 1.0)]}),
    ]
    path = tmp_path / "out" / "chaos.json"
    write_report(path, rows, "a machine")
    assert read_rows(path) == rows
    assert [row.held for row in rows] == [False, True]
    page = path.with_suffix(".md").read_text()
    assert "**misses 1**" in page
    assert "**missed**: worst recovery <= 3 s (measured: 4.5 s)" in page
    assert "2.75 / 4.50" in page


def test_what_was_not_measured_holds_no_bar() -> None:
    assert not at_most("recovery", None, 3.0).held
    assert not witnessed(ROW, tally(Evidence()), [], within_s=3.0).held


def test_a_report_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "chaos.json") == []
