"""Backbones and where their weights come from."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

import timm
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ssn_trainer.errors import WeightsError

_REDUCTIONS = (8, 16)
"""Strides of the two feature stages that are taken: ResNet's layer2 and layer3."""
_PRETRAINED = {"resnet18": "resnet18.tv_in1k"}
"""The weights that the figures in docs/ were measured with; else timm's own choice for the name,
or what the name says (`NAME.TAG`)."""
_REACH_TIMEOUT_S = 10.0


def build_backbone(name: str, weights: str, seed: int) -> nn.Module:
    """Build a timm backbone that gives its features at stride 8 and 16 and ends there.

    `weights`: `auto` (timm's pretrained ones), `none` (random by seed) or the path of a safetensors
    file, which must fit exactly. Raises WeightsError.
    """
    if weights == "auto":
        tag = _PRETRAINED.get(name) or _full_name(name)
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
        msg = (
            f"weights {weights}: do not fit {name} up to stride 16 ({reason}); give fitting weights"
        )
        raise WeightsError(msg) from error
    return backbone


def feature_stages(name: str) -> tuple[int, int]:
    """Return which of a timm backbone's stages have stride 8 and 16, the last of each.

    Raises WeightsError where timm does not know the backbone or it has no such stages.
    """
    with torch.device("meta"):  # shapes alone: nothing is drawn or allocated
        every = _make(name, pretrained=False)
    feature_info = cast("Any", every.feature_info)  # timm is untyped
    reductions = dict(zip(feature_info.reduction(), feature_info.out_indices, strict=True))
    if not all(wanted in reductions for wanted in _REDUCTIONS):
        msg = (
            f"backbone {name}: has features at strides {sorted(reductions)}, but those at 8 and 16 "
            "are needed; take one that has them, as resnet18"
        )
        raise WeightsError(msg)
    return reductions[_REDUCTIONS[0]], reductions[_REDUCTIONS[1]]


def _create(name: str, **options: Any) -> nn.Module:
    return _make(name, out_indices=feature_stages(name), **options)


def _make(name: str, **options: Any) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(name, features_only=True, **options)
    except (RuntimeError, ValueError, AttributeError, IndexError) as error:
        msg = f"backbone {name}: timm cannot make one that gives features ({error})"
        raise WeightsError(f"{msg}; use resnet18") from error
    return backbone


def _full_name(name: str) -> str:
    """`NAME.TAG` of the weights that timm takes for a name. Raises WeightsError."""
    known = timm.get_pretrained_cfg(name)
    if known is None or not known.tag:
        msg = f"backbone {name}: timm has no pretrained weights for it"
        raise WeightsError(f"{msg}; give a file with --weights PATH, or --weights none")
    return f"{known.architecture}.{known.tag}"


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
            "stride 16), or train from random ones with --weights none"
        )
        raise WeightsError(msg) from error
