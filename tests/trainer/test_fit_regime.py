"""A regime sees the labels and masks that are its own, and `auto` says what it took."""

from pathlib import Path

import pytest

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.data.split import Split
from ssn_trainer.errors import DataError, UsageError
from ssn_trainer.fit.recipe import make_recipe
from ssn_trainer.fit.regime import choose_regime, limit_masks, visible


def part(name: str, good: int, bad: int, masked: int) -> tuple[Sample, ...]:
    """Samples without files; two bad images each show one part."""
    samples = []
    for index in range(good + bad):
        ill = index >= good
        path = Path(f"{name}-{index}.png")
        mask = path.with_suffix(".mask") if ill and index - good < masked else None
        label, kind = ("bad", "crack") if ill else ("good", None)
        group = f"{name}-{index // 2}"
        samples.append(Sample(path, path.name, label, kind, mask, group, None, "0"))  # type: ignore[arg-type]  # one of two literals
    return tuple(samples)


def parts(masked: int, masked_tune: int, bad: int = 10, bad_tune: int = 4) -> Split:
    return Split(part("train", 10, bad, masked), part("tune", 4, bad_tune, masked_tune), ())


def chosen(split: Split, head: Head | None = None, masks: int | None = None) -> Regime:
    regime, word = choose_regime(None, head, masks, split)
    assert regime.value in word
    return regime


def test_auto_takes_the_most_that_train_and_tune_part_allow_and_says_so() -> None:
    assert chosen(parts(10, 4)) is Regime.FULL
    assert chosen(parts(10, 3)) is Regime.MIXED
    assert chosen(parts(1, 0)) is Regime.MIXED
    assert chosen(parts(0, 4)) is Regime.WEAK
    assert chosen(parts(10, 0, bad_tune=0)) is Regime.UNSUPERVISED
    assert chosen(parts(0, 4, bad=0)) is Regime.UNSUPERVISED


def test_auto_takes_weak_for_a_head_that_learns_from_no_mask() -> None:
    assert chosen(parts(10, 4), head=Head.GAP_CAM) is Regime.WEAK


@pytest.mark.parametrize("regime", [Regime.WEAK, Regime.MIXED, Regime.FULL])
def test_no_regime_with_bad_images_begins_without_them(regime: Regime) -> None:
    for split in (parts(0, 0, bad=0), parts(10, 0, bad_tune=0)):
        with pytest.raises(DataError, match=f"{regime.value}: there are no bad images"):
            choose_regime(regime, None, None, split)


def test_full_demands_every_mask_and_names_an_image_without_one() -> None:
    with pytest.raises(DataError, match=r"1 of 10 bad images .* no mask, as train-19\.png"):
        choose_regime(Regime.FULL, None, None, parts(9, 4))
    assert choose_regime(Regime.FULL, None, None, parts(10, 0))[0] is Regime.FULL


def test_mixed_demands_one_mask() -> None:
    with pytest.raises(DataError, match="regime mixed"):
        choose_regime(Regime.MIXED, None, None, parts(0, 4))
    assert choose_regime(Regime.MIXED, None, None, parts(1, 0))[0] is Regime.MIXED


def masked(samples: tuple[Sample, ...]) -> set[str]:
    return {s.name for s in samples if s.mask is not None}


def test_a_limit_on_masks_hides_the_others_and_all_of_the_tune_part() -> None:
    split = parts(10, 4)
    few, more = limit_masks(split, 3, seed=0), limit_masks(split, 6, seed=0)
    assert len(masked(few.train)) == 3
    assert masked(few.train) < masked(more.train)
    assert not masked(few.tune)
    assert masked(limit_masks(split, 3, seed=1).train) != masked(few.train)
    assert limit_masks(split, None, seed=0) == split
    assert chosen(few, masks=3) is Regime.MIXED
    assert chosen(limit_masks(split, 99, seed=0), masks=99) is Regime.FULL
    assert chosen(limit_masks(split, 0, seed=0), masks=0) is Regime.WEAK


def test_photographs_of_one_part_show_their_masks_together() -> None:
    shown = [s for s in limit_masks(parts(10, 4), 4, seed=0).train if s.mask is not None]
    assert len({s.group for s in shown}) == 2


def test_a_limit_on_masks_is_refused_where_none_is_opened() -> None:
    for regime in (Regime.WEAK, Regime.UNSUPERVISED):
        with pytest.raises(UsageError, match="--masks 3"):
            choose_regime(regime, None, 3, parts(3, 0))


@pytest.mark.parametrize("regime", list(Regime))
def test_a_regime_sees_no_more_than_its_labels(regime: Regime) -> None:
    seen = visible(parts(10, 4), regime)
    assert len(masked(seen.train)) == (10 if regime in {Regime.MIXED, Regime.FULL} else 0)
    bad = sum(s.label == "bad" for s in seen.tune)
    assert bad == (0 if regime is Regime.UNSUPERVISED else 4)


def test_noise_is_had_by_asking_in_a_regime_that_has_none() -> None:
    assert make_recipe("default", None, Regime.FULL, None, None).noise is None
    drawn = make_recipe("default", None, Regime.FULL, None, None, noise_scale=0.1)
    assert (drawn.noise, drawn.noise_scale) == ("gaussian", 0.1)
    learned = make_recipe("published", None, Regime.UNSUPERVISED, None, None, noise="learned")
    assert (learned.noise, learned.noise_scale) == ("learned", 0.05)


@pytest.mark.parametrize("regime", [Regime.UNSUPERVISED, Regime.MIXED, Regime.FULL])
def test_gap_cam_is_refused_where_it_would_learn_nothing(regime: Regime) -> None:
    with pytest.raises(UsageError, match="gap-cam"):
        make_recipe("default", Head.GAP_CAM, regime, None, None)


def test_gap_cam_is_refused_options_of_parts_it_lacks() -> None:
    with pytest.raises(UsageError, match="--adaptor, --noise-scale"):
        make_recipe(
            "default", Head.GAP_CAM, Regime.WEAK, None, None, adaptor="nonlinear", noise_scale=0.1
        )


def test_the_order_of_the_parts_is_kept() -> None:
    split = parts(10, 4)
    assert [s.name for s in limit_masks(split, 2, 0).train] == [s.name for s in split.train]
