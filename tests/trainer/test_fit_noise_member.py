"""With labels a second map learns from noise, and counts as far as it tells the tune part apart."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from ssn_contract.manifest import Regime
from ssn_trainer.fit.checkpoint import Checkpoint
from ssn_trainer.fit.decision import weigh_noise_member
from ssn_trainer.fit.features import FeatureStore
from ssn_trainer.fit.job import CACHE, Learned
from ssn_trainer.fit.regime import visible
from ssn_trainer.fit.state import TrainingState
from ssn_trainer.model.heads import LeanHead

from .conftest import SIZE, draw_parts, learn_from_folder, order


class CutOff(BaseException):
    """Ends a training between two epochs, as nothing that it catches would."""


def learned(data: Path, out: Path, **options: Any) -> tuple[Learned, str]:
    console = Console(file=io.StringIO(), record=True, width=1000)
    return learn_from_folder(order(data, out, Regime.WEAK, **options), console), (
        console.export_text()
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that features are computed once."""
    return tmp_path_factory.mktemp("noise-member")


@pytest.fixture(scope="module")
def alone(plates: Path, out: Path) -> Learned:
    """A network that has learned from labels, and no second map."""
    return learned(plates, out, adaptor="none", fresh=True)[0]


def lean(trained: Learned) -> LeanHead:
    assert isinstance(trained.network.head, LeanHead)
    return trained.network.head


def units(trained: Learned) -> int:
    return int(lean(trained).segmentation[0].get_parameter("weight").shape[0])


def last_layer(head: LeanHead) -> nn.Parameter:
    return head.segmentation[3].get_parameter("weight")


def test_it_is_trained_by_default_and_not_where_options_say_how_the_one_map_is_trained(
    plates: Path, out: Path, alone: Learned
) -> None:
    both, said = learned(plates, out, fresh=True)
    assert "from noise, epoch 2:" in said
    assert "the map from noise counts" in said
    assert (units(both), units(alone)) == (512, 256)


@pytest.mark.parametrize(("factor", "weight"), [(1.0, 1.0), (4.0, 0.25), (0.0, 0.0)])
def test_it_counts_by_what_it_tells_apart_whatever_its_scale(
    out: Path, alone: Learned, factor: float, weight: float
) -> None:
    labelled = lean(alone)
    beside = copy.deepcopy(labelled)
    with torch.no_grad():
        last_layer(beside).mul_(factor)  # its values times that; with nothing left it is flat
    network = alone.network
    cpu = torch.device("cpu")
    store = FeatureStore(network.extractor, out / CACHE, SIZE, SIZE, cpu)
    tune = visible(alone.parts, Regime.WEAK).tune
    found = weigh_noise_member(network, store, tune, labelled, beside)
    assert found == pytest.approx(weight, rel=0.02)


def test_with_too_few_images_to_weigh_it_none_is_trained_and_that_is_said(tmp_path: Path) -> None:
    data = draw_parts(tmp_path / "data", good=12, bad=6)
    trained, said = learned(data, tmp_path / "out", epochs=1)
    assert "images to tune on: the map is that from labels alone" in said
    assert "from noise, epoch" not in said
    assert units(trained) == 256


def test_what_is_cut_off_while_it_is_trained_goes_on_there_to_the_same_network(
    plates: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncut, _ = learned(plates, out, fresh=True)
    for checkpoint in uncut.checkpoints:
        checkpoint.remove()
    whole = Checkpoint.write

    def write(self: Checkpoint, state: TrainingState) -> None:
        whole(self, state)
        if ".noise." in self.path.name:
            raise CutOff

    with monkeypatch.context() as cut:
        cut.setattr(Checkpoint, "write", write)
        with pytest.raises(CutOff):
            learned(plates, out)
    resumed, said = learned(plates, out)
    assert "\nepoch " not in said
    assert "from noise, epoch 1:" not in said
    assert "from noise, epoch 2:" in said
    for name, value in uncut.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    for checkpoint in resumed.checkpoints:
        checkpoint.remove()
    assert [path.name for path in out.iterdir()] == [CACHE]
