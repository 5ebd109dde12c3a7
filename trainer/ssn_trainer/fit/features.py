"""Backbone features, computed once: one safetensors file an image in a cache folder."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ssn_trainer.data.images import load_input
from ssn_trainer.data.samples import Sample
from ssn_trainer.errors import TrainingError
from ssn_trainer.model.extractor import Extractor

_FORMAT = 1
"""Part of the key: raise it when what is stored, or how it is computed, changes."""
FLIP_AXES: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))
"""Axes of images [N, H, W, 3] that are flipped: none, left-right, upside down, both."""
FLIPS = len(FLIP_AXES)
"""How many mirror images there are of each, itself among them."""
_BATCH = 16


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware has it, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        # Older releases of torch cannot say; they compute in float32.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def mixed_precision(device: torch.device) -> torch.autocast:
    """Convolutions and matrix products in `compute_dtype`."""
    dtype = compute_dtype(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16)


class FeatureStore:
    """Backbone layers of images, from the cache where they are there, else computed and kept.

    They stay in their files until a batch needs them: a line's images are soon more than memory.
    The key is the extractor's weights, the input's size and how it is prepared; within it a file
    is named by its image's digest. Changed images or weights therefore never meet old features.
    """

    def __init__(
        self, extractor: Extractor, cache: Path, height: int, width: int, device: torch.device
    ) -> None:
        """Use `cache`, a folder that is made when it is needed.

        Raises WeightsError where the backbone cannot take images of height x width.
        """
        self._extractor = extractor
        self.device = device
        self._dtype = compute_dtype(device)
        self._size = (height, width)
        digest = hashlib.sha256(f"{_FORMAT} {height} {width} {device.type} {self._dtype}".encode())
        for name, tensor in sorted(extractor.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().numpy().tobytes())
        self.key = digest.hexdigest()
        """Names weights, input size and preparation: what features depend on but for the image."""
        self._folder = cache / self.key[:16]
        # [C, h, w] each; they are kept as [h, w, C]
        shapes = extractor.layer_shapes(height, width)
        self._shapes = [torch.Size((*shape[1:], shape[0])) for shape in shapes]
        self.grid = (shapes[0][1] * extractor.upscale, shapes[0][2] * extractor.upscale)
        """(h, w) of the merged features."""
        self._filled: set[tuple[str, int]] = set()

    def fill(
        self, samples: Sequence[Sample], *, flips: bool, advance: Callable[[int], None]
    ) -> None:
        """Make the features of `samples` available, with their mirror images where `flips`.

        `advance` is told how many images are done. Raises DataError for an unreadable image,
        TrainingError for one whose features are not numbers.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for flip in range(FLIPS if flips else 1):
            missing = [s for s in samples if not self._recall(s, flip)]
            advance(len(samples) - len(missing))
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                self._compute(batch, flip)
                advance(len(batch))

    def batch(self, samples: Sequence[Sample], flips: Sequence[int]) -> tuple[Tensor, Tensor]:
        """layer2 [N, C2, h, w] and layer3 [N, C3, h/2, w/2] of filled `samples`.

        On the device, in `compute_dtype`. `flips` says which mirror image of each: 0 is the image
        itself. Raises TrainingError where a file has gone or is damaged since.
        """
        pairs = [self._read(s, f) for s, f in zip(samples, flips, strict=True)]
        layer2, layer3 = (
            # [N, h, w, C] -> [N, C, h, w], channels last in memory
            torch.stack(layers).to(self.device, self._dtype).permute(0, 3, 1, 2)
            for layers in zip(*pairs, strict=True)
        )
        return layer2, layer3

    def remove(self) -> None:
        """Remove the files of these very weights and this size."""
        shutil.rmtree(self._folder, ignore_errors=True)  # at worst they stay, and cost room alone
        self._filled.clear()

    def _path(self, sample: Sample, flip: int) -> Path:
        return self._folder / f"{sample.digest}-{flip}.safetensors"

    def _recall(self, sample: Sample, flip: int) -> bool:
        if (sample.digest, flip) in self._filled:
            return True
        try:
            stored = load_file(self._path(sample, flip))
            pair = (stored["layer2"], stored["layer3"])
        except (OSError, SafetensorError, KeyError):
            return False  # not there, or damaged: it is computed (again)
        if not all(self._fits(*entry) for entry in zip(pair, self._shapes, strict=True)):
            return False
        self._filled.add((sample.digest, flip))
        return True

    def _read(self, sample: Sample, flip: int) -> tuple[Tensor, Tensor]:
        """Layers from their file: what fits in memory the system keeps there by itself."""
        path = self._path(sample, flip)
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            msg = f"{path}: features cannot be read any more ({error}); run the same command again"
            raise TrainingError(msg) from error
        return stored["layer2"], stored["layer3"]

    @staticmethod
    def _fits(layer: Tensor, shape: torch.Size) -> bool:
        fits = layer.shape == shape and layer.dtype == torch.float16
        return fits and bool(layer.isfinite().all())

    def _compute(self, samples: Sequence[Sample], flip: int) -> None:
        inputs = torch.from_numpy(np.stack([load_input(s, *self._size) for s in samples]))
        flipped = inputs.flip(FLIP_AXES[flip]).to(self.device)
        with torch.inference_mode(), mixed_precision(self.device):
            layers = self._extractor.layers(flipped)
        # [N, C, h, w] -> [N, h, w, C]
        layer2, layer3 = (x.permute(0, 2, 3, 1).cpu().half().contiguous() for x in layers)
        for index, sample in enumerate(samples):
            pair = (layer2[index], layer3[index])
            if not all(layer.isfinite().all() for layer in pair):
                msg = (
                    f"{sample.path}: the backbone's features of it are not numbers, or too large; "
                    "look for damaged --weights, or use another --backbone"
                )
                raise TrainingError(msg)
            path = self._path(sample, flip)
            unfinished = path.with_suffix(f".{os.getpid()}")
            try:
                save_file({"layer2": pair[0], "layer3": pair[1]}, unfinished)
                unfinished.replace(path)
            except (OSError, SafetensorError) as error:
                unfinished.unlink(missing_ok=True)
                msg = f"{path}: features cannot be kept ({error}); make room, or give another --out"
                raise TrainingError(msg) from error
            self._filled.add((sample.digest, flip))
