"""The report says what was measured, needs nothing but itself, and trusts no name from outside."""

import base64
import datetime as dt
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_contract.manifest import Calibration, Head, RateLimit, Regime, Threshold
from ssn_trainer.data.listing import Label
from ssn_trainer.data.samples import DataSet, Sample
from ssn_trainer.data.split import Split
from ssn_trainer.pack.gallery import FULL, SMALL, Painter, Room, make_galleries
from ssn_trainer.pack.judge import Judged, figures, judge
from ssn_trainer.pack.plots import draw_histograms, draw_precision_recall, draw_roc
from ssn_trainer.pack.report import Facts, Making, render, type_row

NETWORK = 32
IDENTITY = Calibration(threshold=0.5, slope=4.0)
MANIFEST = {
    "name": "plates",
    "version": "1",
    "created_at": dt.datetime(2024, 5, 6, 7, 8, tzinfo=dt.timezone.utc),
    "trainer": "ssn-trainer 0",
    "regime": Regime.WEAK,
    "head": Head.LEAN,
    "variant": None,
    "backbone": "resnet18",
    "input": {"height": NETWORK, "width": NETWORK},
}


class Page(HTMLParser):
    """What a browser would make of a report: its elements with their attributes, and its text."""

    def __init__(self, report: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(report.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.text += " " if tag in {"td", "th"} else ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self, kind: str) -> list[bytes]:
        start = f"data:image/{kind};base64,"
        sources = [str(a["src"]) for tag, a in self.elements if tag == "img"]
        return [base64.b64decode(s.removeprefix(start)) for s in sources if s.startswith(start)]

    def words(self) -> str:
        return " ".join(self.text.split())


def brightness(inputs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score as a network does: by the mean of the red channel, in [0, 1]."""
    maps = inputs[..., 0].astype(np.float32) / np.float32(255)  # [N, H, W, 3] -> [N, H, W]
    return maps.mean(axis=(1, 2), dtype=np.float32), maps


def sample(
    root: Path,
    name: str,
    score: float,
    *,
    kind: str | None = None,
    group: str | None = None,
    masked: bool = False,
    side: int = 40,
) -> Sample:
    """Draw an image of which `brightness` makes that score."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((side, side, 3), round(255 * score), np.uint8)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    mask = None
    if masked:
        mask = path.with_name(f"{path.stem}_mask.png")
        marks = np.zeros((side, side), np.uint8)
        marks[8:24, 8:24] = 255
        mask.write_bytes(cv2.imencode(".png", marks)[1].tobytes())
    label: Label = "good" if kind is None else "bad"
    return Sample(path, name, label, kind, mask, group or name, None, name)


def painter(room: Room = FULL, *, masks: bool = True) -> Painter:
    return Painter(brightness, NETWORK, NETWORK, IDENTITY, room, masks)


def facts(samples: list[Sample], **changes: Any) -> Facts:
    """A report's subject: these samples are the test part."""
    judged = judge(brightness, samples, NETWORK, NETWORK, lambda _: None, pixels=True)
    values: dict[str, Any] = {
        "manifest": MANIFEST,
        "making": Making({"epochs": 6}, 12.34),
        "dataset": DataSet(Path("/data"), "folder", "the name", tuple(samples), ("2 skipped",)),
        "split": Split(tuple(samples[:2]), (), tuple(samples)),
        "seed": 7,
        "threshold": Threshold(method="highest F1", good_images=3, bad_images=4),
        "calibration": IDENTITY,
        "judged": judged,
        "on_test": True,
        "figures": figures(judged),
        "painter": painter(),
    }
    return Facts(**{**values, **changes})


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """4 good parts, one of them over the threshold, and 6 bad ones, two of them below."""
    good = [sample(tmp_path, f"good/{i}.png", s) for i, s in enumerate((0.1, 0.2, 0.3, 0.7))]
    scores = ((0.4, "dent"), (0.1, "stain"), (0.6, "dent"), (0.8, "stain"), (0.9, "dent"))
    bad = [
        sample(tmp_path, f"{kind}/{i}.png", s, kind=kind, masked=True)
        for i, (s, kind) in enumerate(scores)
    ]
    return [*good, *bad, sample(tmp_path, "stain/9.png", 0.94, kind="stain")]


def test_the_report_needs_nothing_from_outside_and_runs_nothing(samples: list[Sample]) -> None:
    page = Page(render(facts(samples)))
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div"}
    allowed |= {"table", "tr", "th", "td", "figure", "figcaption", "img", "b", "bdi", "code"}
    assert {tag for tag, _ in page.elements} <= allowed | {"ul", "li"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "href"]
        if "src" in attributes:
            assert tag == "img"
            assert str(attributes["src"]).startswith(("data:image/jpeg;", "data:image/svg+xml;"))
    policies = [a["content"] for _, a in page.elements if "http-equiv" in a]
    assert len(policies) == 1
    rules = str(policies[0]).split("; ")
    assert {"default-src 'none'", "img-src data:"} <= set(rules)
    assert not [rule for rule in rules if rule.startswith("script-src")]
    style = page.text[: page.text.index("What it can do")]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "size: A4" in style
    drawings = page.images("svg+xml")
    assert len(drawings) == 3
    for drawing in drawings:
        assert b"<script" not in drawing
        assert not re.search(rb'href="(?!#)', drawing)


def test_names_from_outside_are_text_and_nothing_else(tmp_path: Path) -> None:
    evil, quote = "<script>alert(1)<&", "\"><img src=x onerror='alert(1)'>"
    samples = [
        sample(tmp_path, "good/a.png", 0.1),
        sample(tmp_path, f"{evil}/<b>a.png", 0.2, kind=evil),
        sample(tmp_path, f"{quote}/b.png", 0.8, kind=quote),
    ]
    dataset = DataSet(tmp_path, "folder", evil, tuple(samples), (evil,))
    report = render(facts(samples, dataset=dataset, making=Making({evil: evil})))
    page = Page(report)
    assert b"<script" not in report
    assert not [tag for tag, a in page.elements if tag == "script" or "onerror" in a]
    assert page.text.count(evil) >= 6  # table, gallery twice, data, note, setting
    assert f"{quote}/b.png" in page.text
    assert "<b>a.png" in page.text


def test_a_name_that_is_no_utf_8_is_shown_by_its_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff/a.png")
    samples = [sample(tmp_path, "good/a.png", 0.1), sample(tmp_path, name, 0.2, kind="bad")]
    assert "bad\\udcff/a.png" in Page(render(facts(samples))).text


def test_the_same_facts_give_the_same_bytes_whatever_matplotlib_is_set_to(
    samples: list[Sample],
) -> None:
    first = render(facts(samples))
    with mpl.rc_context({"font.size": 30.0, "lines.linewidth": 9.0}):
        assert render(facts(samples)) == first
        assert mpl.rcParams["font.size"] == 30.0


def test_errors_come_first_and_the_worst_of_them_before_the_others(samples: list[Sample]) -> None:
    scored = facts(samples)
    published = scored.judged.scores
    found = make_galleries(painter(), scored.judged, published)
    assert [t.name for t in found.misses] == ["stain/1.png", "dent/0.png"]
    assert [t.name for t in found.alarms] == ["good/3.png"]
    assert [(t.kind, round(t.score, 1)) for t in found.hits] == [
        ("dent", 0.6),
        ("dent", 0.9),
        ("stain", 0.8),
        ("stain", 0.9),
    ]
    assert (found.all_misses, found.all_alarms, found.all_hits) == (2, 1, 4)
    text = Page(render(scored)).words()
    order = ["Misses (bad images that pass): 2", "stain/1.png", "dent/0.png", "False alarms"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_no_more_than_eight_errors_of_a_kind_are_shown(tmp_path: Path) -> None:
    good = [sample(tmp_path, f"good/{i:02d}.png", 0.6 + i / 100) for i in range(20)]
    bad = [sample(tmp_path, f"dent/{i:02d}.png", 0.4 - i / 100, kind="dent") for i in range(20)]
    scored = facts([*good, *bad])
    found = make_galleries(painter(), scored.judged, scored.judged.scores)
    assert [t.name for t in found.misses] == [f"dent/{i:02d}.png" for i in range(19, 11, -1)]
    assert [t.name for t in found.alarms] == [f"good/{i:02d}.png" for i in range(19, 11, -1)]
    assert "20 8 of them, the lowest score first." in Page(render(scored)).words()


def test_the_mask_is_outlined_where_it_is_known_and_may_be_opened(samples: list[Sample]) -> None:
    masked, unmasked = samples[4], samples[-1]
    dark = replace(masked, path=samples[0].path)
    for tile, wanted in (
        (painter().tile(dark, 0.4), True),
        (painter(masks=False).tile(replace(dark, mask=Path("/nowhere.png")), 0.4), False),
        (painter().tile(unmasked, 0.4), False),
    ):
        data = base64.b64decode(tile.heatmap.partition(",")[2])
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        blue, green, red = np.moveaxis(picture.astype(int), 2, 0)
        magenta = (blue > 150) & (red > 150) & (green < 100)
        assert tile.outlined == wanted
        assert magenta.any() == wanted
        assert magenta.sum() < 100  # a line, no area
    assert "no mask" in Page(render(facts(samples))).text


def test_rates_are_of_parts_with_exact_bounds(tmp_path: Path) -> None:
    def bad(name: str, score: float, group: str) -> Sample:
        return sample(tmp_path, name, score, kind="dent", group=group)

    samples = [
        sample(tmp_path, "good/0.png", 0.1, group="a"),
        sample(tmp_path, "good/1.png", 0.9, group="a"),  # one image of two: the part is rejected
        sample(tmp_path, "good/2.png", 0.2, group="b"),
        bad("dent/0.png", 0.9, "c"),
        bad("dent/1.png", 0.2, "c"),  # one image of two: the part is not found
        bad("dent/2.png", 0.9, "d"),
        bad("dent/3.png", 0.9, "e"),
    ]
    judged = facts(samples).judged
    is_bad = judged.of("bad")
    row = type_row("dent", judged, judged.scores, is_bad)
    assert row is not None
    assert (row.parts, row.images, row.failed_images, row.failed_parts) == (3, 4, 3, 2)
    assert row.share == pytest.approx(2 / 3)
    # P(2 or 3 of 3) at the lower bound is 5 %
    assert 3 * row.bound**2 - 2 * row.bound**3 == pytest.approx(0.05)
    good = type_row("good", judged, judged.scores, ~is_bad)
    assert good is not None
    assert (good.parts, good.images, good.failed_images, good.failed_parts) == (2, 3, 1, 1)
    # P(0 or 1 of 2) at the upper bound is 5 %
    assert 1 - good.bound**2 == pytest.approx(0.05)
    perfect = type_row("dent", judged, np.ones(7), is_bad)
    assert perfect is not None
    assert perfect.bound == pytest.approx(0.05 ** (1 / 3))


def test_the_table_has_a_row_for_each_type_and_one_for_all(samples: list[Sample]) -> None:
    text = Page(render(facts(samples))).words()
    assert re.search(r"dent 3 3 2 2 66\.7 % 13\.5 %", text)
    assert re.search(r"stain 3 3 2 2 66\.7 % 13\.5 %", text)
    assert re.search(r"all 6 6 4 4 66\.7 % 27\.1 %", text)
    assert re.search(r"good 4 4 1 1 25\.0 % 75\.1 %", text)


def test_the_figures_are_those_of_the_manifest_with_their_intervals(samples: list[Sample]) -> None:
    scored = facts(samples)
    text = Page(render(scored)).words()
    low, high = scored.figures.intervals["i_auroc"] or (0, 0)
    value = scored.figures.values["i_auroc"]
    assert f"I-AUROC {value:.4f} {low:.4f} to {high:.4f}" in text
    assert "neither trained nor tuned on" in text


def test_without_a_test_part_the_tune_part_is_shown_and_said_to_be(samples: list[Sample]) -> None:
    nothing = figures(Judged((), np.empty(0, np.float32), np.empty(0, np.float32)))
    scored = facts(samples, on_test=False, figures=nothing, painter=painter(masks=False))
    page = Page(render(scored))
    text = page.words()
    assert "There is no test part here, so there are no figures." in text
    assert "those of the tune part, on which the threshold was chosen: they flatter" in text
    assert "I-AUROC" not in text
    assert len(page.images("svg+xml")) == 3


def test_of_good_images_alone_there_are_scores_but_no_curves(samples: list[Sample]) -> None:
    page = Page(render(facts(samples[:4])))
    assert "No curves: they want good and bad images." in page.text
    assert len(page.images("svg+xml")) == 1
    assert "Misses (bad images that pass): 0 None." in page.words()


def test_a_limit_that_the_data_do_not_support_is_said(samples: list[Sample]) -> None:
    limit = RateLimit(
        limit=0.01, parts=50, observed=0.0, upper_bound=0.058, supported=False, images_needed=299
    )
    threshold = Threshold(method="for limits", good_images=50, bad_images=4, false_reject=limit)
    text = Page(render(facts(samples, threshold=threshold))).words()
    assert "false rejects 0.01 50 0 0.058 no 299" in text
    assert "--max-false-reject 0.01 is not supported by the tune part" in text
    assert "so none is promised" in Page(render(facts(samples))).words()


def test_data_settings_and_timing_are_told(samples: list[Sample]) -> None:
    split = Split(tuple(samples[:3]), tuple(samples[3:5]), tuple(samples[5:]))
    text = Page(render(facts(samples, split=split))).words()
    assert "images of one part told by: the name; cut with seed 7" in text
    assert "good 3 1 0 dent 0 1 2 stain 0 0 3" in text
    assert "2 skipped" in text
    assert "epochs 6" in text
    assert "2024-05-06 07:08 UTC" in text
    assert "12.3 s" in text
    assert "The fit: not measured." in Page(render(facts(samples, making=Making()))).words()


@pytest.mark.parametrize(("room", "most"), [(FULL, 2_000_000), (SMALL, 500_000)])
def test_the_report_stays_small_however_large_and_rough_the_images(
    tmp_path: Path, room: Room, most: int
) -> None:
    rng = np.random.default_rng(0)
    samples = []
    for i in range(30):
        drawn = sample(tmp_path, f"dent/{i}.png", 0.5, kind="dent" if i < 20 else None)
        rough = rng.integers(0, 256, (700, 500, 3), np.uint8)
        drawn.path.write_bytes(cv2.imencode(".bmp", rough)[1].tobytes())
        samples.append(drawn)
    scores = np.where(np.arange(30) % 2, 0.1, 0.9).astype(np.float32)
    judged = Judged(samples, scores, scores)
    # Stored as they are: the scores of noise would all be one.
    report = render(facts(samples, judged=judged, figures=figures(judged), painter=painter(room)))
    pictures = Page(report).images("jpeg")
    assert len(pictures) == 2 * (8 + 5 + 4)
    for data in pictures:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert max(picture.shape) == room.side
    assert len(report) < most


def test_curves_of_very_many_images_stay_small() -> None:

    rng = np.random.default_rng(0)
    bad = rng.random(50_000) < 0.5
    scores = rng.random(50_000)
    for draw in (draw_roc, draw_precision_recall, draw_histograms):
        assert len(draw(bad, scores)) < 100_000
