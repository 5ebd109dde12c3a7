"""Everything that training changes, and how it goes into a checkpoint and comes back."""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssn_trainer.fit.recipe import Recipe
from ssn_trainer.model.heads import AnyHead, GapCamHead
from ssn_trainer.model.network import Network
from ssn_trainer.model.noise import NoiseGenerator

_MILESTONES = (0.8, 0.9)
"""Shares of the epochs after which the rates fall, as published."""
_DECAY = 0.4
_RISE = 0.3
"""Share of a one-cycle training in which its rates rise, from this share of their peak on:"""
_START = 0.04


class State:
    """Modules, their optimizers and random draws, and how many epochs are finished."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        seed: int,
    ) -> None:
        """Start a training that changes `modules` in place; names are those of the checkpoint.

        Each group of an optimizer names its highest rate, `initial_lr`.
        """
        self._modules = dict(modules)
        self._optimizers = dict(optimizers)
        self.noise_draws = torch.Generator().manual_seed(seed)
        self.batch_draws = np.random.default_rng(seed)
        self.epoch = 0
        """Epochs that are finished."""

    def scale_rates(self, factor: float) -> None:
        """Set the learning rates to this share of their highest."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def step(self) -> None:
        """Let every optimizer take a step."""
        for optimizer in self._optimizers.values():
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state, by names that `restore` knows."""
        named = {"noise_draws": self.noise_draws.get_state()}
        for part, module in self._modules.items():
            named |= {f"{part}.{name}": value for name, value in module.state_dict().items()}
        for part, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                named |= {f"{part}.{index}.{name}": value for name, value in moments.items()}
        return {name: value.contiguous() for name, value in named.items()}

    def facts(self) -> dict[str, Any]:
        """Return what is no tensor, as JSON takes it."""
        return {"epoch": self.epoch, "batch_draws": dict(self.batch_draws.bit_generator.state)}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `facts` of a state of the same training gave."""
        self.epoch = facts["epoch"]
        self.batch_draws.bit_generator.state = facts["batch_draws"]
        self.noise_draws.set_state(tensors["noise_draws"])
        for part, module in self._modules.items():
            module.load_state_dict(_under(tensors, part))
        for part, optimizer in self._optimizers.items():
            _restore_moments(optimizer, _under(tensors, part))


class TrainingState(State):
    """Of a head's training, with the average of its weights and the best epoch so far."""

    def __init__(self, network: Network, recipe: Recipe, seed: int) -> None:
        """Start a training of the network's head, which is changed in place."""
        self.recipe = recipe
        self.head: AnyHead = network.head
        keep = get_ema_multi_avg_fn(recipe.averaging)  # type: ignore[no-untyped-call]  # torch's
        self.average = AveragedModel(self.head, multi_avg_fn=keep, use_buffers=True)
        self.optimizer = _optimizer(self.head, recipe)
        modules: dict[str, nn.Module] = {"head": self.head, "average": self.average}
        optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": self.optimizer}
        self.learned: NoiseGenerator | None = None
        self.learned_optimizer: torch.optim.Optimizer | None = None
        if recipe.noise == "learned":
            torch.manual_seed(seed)
            self.learned = NoiseGenerator(network.extractor.channels, recipe.noise_scale)
            self.learned.to(network.feature_mean.device)
            groups = [{"params": list(self.learned.parameters()), "initial_lr": recipe.lr_heads}]
            self.learned_optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
            modules["learned"] = self.learned
            optimizers["learned_optimizer"] = self.learned_optimizer
        super().__init__(modules, optimizers, seed)
        self.best, self.best_epoch = math.inf, 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def candidate(self) -> AnyHead:
        """The head with the averaged weights, in eval mode."""
        return cast("AnyHead", self.average.module.eval())

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the patience is at its end."""
        patience = self.recipe.patience
        stale = patience > 0 and self.epoch - self.best_epoch >= patience
        return self.epoch >= self.recipe.epochs or stale

    def set_rates(self, done: float) -> None:
        """Set the learning rates of a step, `done` being the share of the training before it."""
        self.scale_rates(
            one_cycle(done) if self.recipe.schedule == "one-cycle" else _by_steps(done)
        )

    def finish_epoch(self, tune: float) -> None:
        """Count an epoch; keep its averaged weights where its tune loss is the best so far."""
        self.epoch += 1
        if tune < self.best or not self.recipe.patience:
            self.best, self.best_epoch = tune, self.epoch
            weights = self.average.module.state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state, the best epoch's weights among them."""
        best = {f"best.{name}": value.contiguous() for name, value in self.best_weights.items()}
        return super().tensors() | best

    def facts(self) -> dict[str, Any]:
        """Return what is no tensor, which epoch was the best among it."""
        return super().facts() | {"best": self.best, "best_epoch": self.best_epoch}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `facts` of a state of the same recipe and data gave."""
        super().restore(tensors, facts)
        self.best, self.best_epoch = facts["best"], facts["best_epoch"]
        self.best_weights = _under(tensors, "best")


def _optimizer(head: AnyHead, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; the adaptor has a rate of its own and no weight decay."""
    adaptor = [] if isinstance(head, GapCamHead) else list(head.adaptor.parameters())
    own = {id(p) for p in adaptor}
    heads = [p for p in head.parameters() if id(p) not in own and p.requires_grad]
    groups = [{"params": heads, "initial_lr": recipe.lr_heads, "weight_decay": recipe.weight_decay}]
    if adaptor:
        groups.append({"params": adaptor, "initial_lr": recipe.lr_adaptor, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


def _by_steps(done: float) -> float:
    return _DECAY ** sum(done >= milestone for milestone in _MILESTONES)


def one_cycle(done: float) -> float:
    """Half a cosine up, half a cosine down to nothing."""
    if done < _RISE:
        return _START + (1 - _START) * (1 - math.cos(math.pi * done / _RISE)) / 2
    return (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE))) / 2


def _under(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    start = f"{part}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _restore_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Put tensors named `INDEX.NAME` back, by the index of their parameter."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, _, what = name.partition(".")
        state.setdefault(int(index), {})[what] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
