"""Make the demo's bundle from nothing but pictures that the project draws: `make demo-bundle`.

1. Draw parts of the "train" namespace and train a ResNet18 up to layer3 on them from scratch, to
   say for each cell of its grids whether a defect is there. No foreign weights are in it.
2. Draw other parts of that namespace as a folder data set, and have `ssn-trainer`'s own fit make a
   bundle from good / bad labels alone: weak regime, default head, weights stored as float16.
3. Judge parts of the "serve" namespace, which neither step has seen, and print what was found.

    python deploy/demo/make_demo_bundle.py [--work DIR] [--out FILE] [--check-only]
        [--reference-only]

About 15 minutes on two cores. Everything follows from the seeds below: so `--reference-only` draws
the parts of step 2 again, and describes the good ones anew in the bundle that is there.
"""

import argparse
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

from ssn_agent.bundles.archive import REFERENCE, Bundle, write_bundle
from ssn_agent.demo.line import ProductionLine
from ssn_agent.demo.show import THRESHOLD
from ssn_agent.frames.pixels import to_network_input
from ssn_agent.inference.scorer import Scorer
from ssn_contract.manifest import Regime
from ssn_trainer.data.images import load_image
from ssn_trainer.data.samples import Sample, load
from ssn_trainer.fit.job import fit
from ssn_trainer.fit.order import Order
from ssn_trainer.model.weights import build_backbone
from ssn_trainer.pack.reference import describe

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "agent" / "ssn_agent" / "demo" / "demo-1.0.0.ssn"
HEIGHT, WIDTH = 192, 256
BACKBONE_PARTS, BACKBONE_SEED = 3000, 1
FIT_PARTS, FIT_SEED = 900, 2
CHECK_PARTS, CHECK_SEED = 1000, 2000
STEPS, BATCH, RATE = 1600, 24, 2e-3
CROP = 96
"""Side of the squares that the backbone learns on: two holes and more, a fifth of the work."""

Inputs = NDArray[np.uint8]
Masks = NDArray[np.bool_]


def draw(seed: int, count: int) -> tuple[Inputs, Masks]:
    """Return parts of the "train" namespace, half of them bad: [N, H, W, 3] and masks [N, H, W]."""
    line = ProductionLine(seed, defect_rate=0.5, namespace="train")
    inputs = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    masks = np.empty((count, HEIGHT, WIDTH), np.bool_)
    for i in track(range(count), "drawing", console=Console(stderr=True)):
        part = line.part(i)
        inputs[i] = to_network_input(part.image, HEIGHT, WIDTH)
        # By area, so that a thin scratch does not fall between the pixels.
        cover = part.mask.astype(np.float32)
        masks[i] = cv2.resize(cover, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) > 0.25
    return inputs, masks


class Pretraining(nn.Module):
    """A backbone that learns to find defects on the grids of layer2 and layer3."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone("resnet18", "none", BACKBONE_SEED)
        untyped = cast("Any", self.backbone)  # as timm is
        channels = untyped.feature_info.channels()
        self.finders = nn.ModuleList(nn.Conv2d(c, 1, kernel_size=1) for c in channels)
        self.register_buffer("mean", torch.tensor(untyped.pretrained_cfg["mean"]) * 255)
        self.register_buffer("std", torch.tensor(untyped.pretrained_cfg["std"]) * 255)

    def forward(self, images: Tensor) -> list[Tensor]:
        """uint8 RGB [N, H, W, 3] to logits [N, 1, H/8, W/8] and [N, 1, H/16, W/16]."""
        # [N, H, W, 3] -> [N, 3, H, W]
        layers = self.backbone(((images.float() - self.mean) / self.std).permute(0, 3, 1, 2))
        return [find(layer) for find, layer in zip(self.finders, layers, strict=True)]


def finding_loss(logits: list[Tensor], masks: Tensor) -> Tensor:
    """Cell by cell, and for the whole by the mean of its 4 highest cells; masks [N, 1, H, W]."""
    loss = masks.new_zeros(())
    for grid in logits:
        target = F.adaptive_max_pool2d(masks, list(grid.shape[-2:]))
        weight = 1 + 9 * target  # cells with a defect are few
        loss = loss + F.binary_cross_entropy_with_logits(grid, target, weight=weight)
        top = grid.flatten(1).topk(4, dim=1).values.mean(dim=1)
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(top, target.flatten(1).amax(dim=1))
    return loss


def train_backbone(path: Path, console: Console) -> None:
    """Train from scratch and write the backbone's weights as safetensors."""
    inputs, masks = draw(BACKBONE_SEED, BACKBONE_PARTS)
    torch.manual_seed(BACKBONE_SEED)
    rng = np.random.default_rng(BACKBONE_SEED)
    model = Pretraining().to(memory_format=torch.channels_last)
    # Only the convolutions: statistics and updates stay exact.
    torch.backends.mkldnn.conv.fp32_precision = "bf16"  # type: ignore[attr-defined]  # not in its stubs
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    start, losses = time.monotonic(), []
    for step in range(1, STEPS + 1):
        images, wanted = crops(inputs, masks, rng)
        loss = finding_loss(model(images), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            seconds = time.monotonic() - start
            console.print(f"step {step}/{STEPS}: loss {np.mean(losses[-50:]):.4f}, {seconds:.0f} s")
    torch.backends.mkldnn.conv.fp32_precision = "none"  # type: ignore[attr-defined]  # as above
    state = {name: value.contiguous() for name, value in model.backbone.state_dict().items()}
    save_file(state, path)


def crops(inputs: Inputs, masks: Masks, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw a batch of squares, mirrored at random: [N, S, S, 3] and masks [N, 1, S, S].

    The square of a bad part has its defect near the middle, that of a good part is anywhere on it.
    """
    images = np.empty((BATCH, CROP, CROP, 3), np.uint8)
    wanted = np.empty((BATCH, 1, CROP, CROP), np.float32)
    for k, i in enumerate(rng.choice(len(inputs), BATCH, replace=False)):
        cells = np.argwhere(masks[i])
        middle = cells[rng.integers(len(cells))] if len(cells) else np.array([HEIGHT, WIDTH]) / 2
        corner = middle - CROP / 2 + rng.uniform(-CROP / 3, CROP / 3, 2)
        top, left = np.clip(corner, 0, [HEIGHT - CROP, WIDTH - CROP]).astype(int)
        square = np.s_[top : top + CROP, left : left + CROP]
        turn = (slice(None, None, rng.choice([-1, 1])), slice(None, None, rng.choice([-1, 1])))
        images[k], wanted[k, 0] = inputs[i][square][turn], masks[i][square][turn]
    return torch.from_numpy(images), torch.from_numpy(wanted)


def write_data_set(folder: Path) -> None:
    """Write parts as `good/` and a folder for each defect, as an operator would sort them."""
    line = ProductionLine(FIT_SEED, defect_rate=0.4, namespace="train")
    for i in track(range(FIT_PARTS), "writing", console=Console(stderr=True)):
        part = line.part(i)
        path = folder / (part.defect or "good") / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), part.image)


def fit_bundle(data: Path, weights: Path, work: Path, console: Console) -> Path:
    """Have the trainer make the bundle, as `ssn-trainer fit` would."""
    order = Order(
        data=data,
        out=work,
        name="demo",
        regime=Regime.WEAK,
        weights=str(weights),
        height=HEIGHT,
        width=WIDTH,
        seed=FIT_SEED,
        group_by=".*",  # every drawn part is its own
    )
    # No int8: a second file of weights would not fit into a bundle of 8 MB.
    return fit(order, "1.0.0", console, half_weights=True, twins=("bf16",)).packed.path


def describe_anew(path: Path, data: Path) -> None:
    """Write `reference.json` anew, from the very images that the bundle was made from."""
    bundle = Bundle.open(path)
    scorer = Scorer(bundle, threads=1)
    samples = {s.digest: s for s in load(data, ".*").samples}

    def good(part: str) -> tuple[list[Sample], NDArray[np.float32]]:
        listed = json.loads(bundle.read("data.json"))["parts"][part]
        digests = [image["digest"] for image in listed if image["label"] == "good"]
        if not samples.keys() >= set(digests):
            raise SystemExit(f"{path}: was not made from what this version draws; make it anew")
        found = [samples[digest] for digest in digests]
        return found, np.array([scorer.score(load_image(s)).raw for s in found], np.float32)

    trained, scores = good("train")
    described = describe(trained, scores, good("tune")[1], HEIGHT, WIDTH)
    files = {entry.path: bundle.read(entry.path) for entry in bundle.manifest.entries}
    files[REFERENCE] = json.dumps(described, indent=1).encode()
    write_bundle(path, bundle.manifest.model_dump(exclude={"entries"}), files)


def check(bundle: Path, console: Console) -> None:
    """Judge parts that the model has never seen, and print the table."""
    scorer = Scorer(Bundle.open(bundle), threads=1)
    scorer.check_vectors()
    line = ProductionLine(CHECK_SEED)
    parts, failed, milliseconds = Counter[str](), Counter[str](), []
    for i in range(CHECK_PARTS):
        part = line.part(i)
        start = time.perf_counter()
        score = scorer.score(part.image).score
        milliseconds.append(1000 * (time.perf_counter() - start))
        parts[part.defect or "good"] += 1
        failed[part.defect or "good"] += score >= THRESHOLD
    table = Table("drawn as", "parts", "FAIL", "share", title=f"{bundle.name}, seed {CHECK_SEED}")
    bad, found = parts.total() - parts["good"], failed.total() - failed["good"]
    for kind in ["good", *sorted(parts.keys() - {"good"})]:
        share = f"{failed[kind] / parts[kind]:.1%}"
        table.add_row(kind, str(parts[kind]), str(failed[kind]), share)
    table.add_row("all defects", str(bad), str(found), f"{found / bad:.1%}")
    console.print(table)
    size = bundle.stat().st_size / 1e6
    console.print(f"{size:.2f} MB; median {np.median(milliseconds):.1f} ms a part on one core")


def main() -> None:
    """Make the bundle, check it, and put it in its place."""
    parser = argparse.ArgumentParser(description="Make the demo's bundle.")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--out", type=Path, default=BUNDLE)
    parser.add_argument("--check-only", action="store_true", help="judge the bundle at --out")
    parser.add_argument("--reference-only", action="store_true", help="describe its images anew")
    options = parser.parse_args()
    console = Console()
    weights, data = options.work / "backbone.safetensors", options.work / "parts"
    if options.reference_only:
        shutil.rmtree(data, ignore_errors=True)
        write_data_set(data)
        describe_anew(options.out, data)
    elif not options.check_only:
        options.work.mkdir(parents=True, exist_ok=True)
        train_backbone(weights, console)
        shutil.rmtree(data, ignore_errors=True)
        write_data_set(data)
        shutil.copyfile(fit_bundle(data, weights, options.work, console), options.out)
    check(options.out, console)


if __name__ == "__main__":
    main()
