"""Backbones and where their weights come from."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ssn_trainer.errors import WeightsError

LAYERS = (2, 3)
"""Which feature stages are taken: layer2 (stride 8) and layer3 (stride 16)."""

_PRETRAINED = {"resnet18": "resnet18.tv_in1k"}
"""Which of timm's weights `auto` takes; for other backbones the name says it (`NAME.TAG`)."""
_REACH_TIMEOUT_S = 10.0


def build_backbone(name: str, weights: str, seed: int) -> nn.Module:
    """Build a timm backbone that ends after layer3.

    `weights`: `auto` (timm's pretrained ones), `none` (random by seed) or the path of a safetensors
    file, which must fit exactly. Raises WeightsError.
    """
    if weights == "auto":
        tag = _PRETRAINED.get(name, name)
        return _create(tag, pretrained=True, pretrained_cfg_overlay={"file": str(_download(tag))})
    torch.manual_seed(seed)
    backbone = _create(name, pretrained=False)
    if weights == "none":
        return backbone
    try:
        state = load_file(weights)
    except FileNotFoundError as error:
        msg = f"weights {weights}: no such file; give a safetensors file, `auto` or `none`"
        raise WeightsError(msg) from error
    except (OSError, SafetensorError) as error:
        msg = f"weights {weights}: not a readable safetensors file ({error}); replace the file"
        raise WeightsError(msg) from error
    try:
        backbone.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        msg = f"weights {weights}: do not fit {name} up to layer3 ({reason}); give fitting weights"
        raise WeightsError(msg) from error
    return backbone


def _create(name: str, **options: Any) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(
            name, features_only=True, out_indices=LAYERS, **options
        )
    except (RuntimeError, ValueError, AttributeError, IndexError) as error:
        msg = f"backbone {name}: timm cannot make one with layer2 and layer3 ({error})"
        raise WeightsError(f"{msg}; use resnet18") from error
    return backbone


def _download(tag: str) -> Path:
    """Return timm's weights of that tag from the local cache, or else from the network."""
    repository, file = f"timm/{tag}", "model.safetensors"
    try:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    except LocalEntryNotFoundError:
        pass  # not in the cache
    try:
        # Asked first, because the download itself would retry for a minute without a network.
        with urllib.request.urlopen(  # noqa: S310 -- the endpoint is a constant, https by default
            f"{constants.ENDPOINT}/{repository}/resolve/main/config.json", timeout=_REACH_TIMEOUT_S
        ):
            pass
        return Path(hf_hub_download(repository, file))
    except (OSError, ValueError) as error:
        msg = (
            f"weights auto: {tag} is not in the local cache and cannot be downloaded ({error}); "
            "connect to the network, or give a file with --weights PATH (safetensors, up to "
            "layer3), or train from random ones with --weights none"
        )
        raise WeightsError(msg) from error
