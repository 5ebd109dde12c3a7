"""The options that say what is to be trained, shared by the commands that train."""

import functools
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from ssn_contract.manifest import Head, Regime
from ssn_trainer.data.fetch import fetch, folder_of
from ssn_trainer.data.listing import Format
from ssn_trainer.data.station import Station, is_url
from ssn_trainer.errors import UsageError

if TYPE_CHECKING:
    from ssn_trainer.fit.order import Order  # torch takes seconds to load: --help need not wait
    from ssn_trainer.pack.twin import TwinName

Data = Annotated[Path, typer.Argument(help="Folder of labelled images, or a CSV of them.")]
DataFormat = Annotated[
    Format, typer.Option("--format", help="How DATA is laid out: see docs/data.md.")
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="CSV of image,group, a regular expression on the name, or near-duplicates.",
        show_default="groups.csv in DATA, else the layout's own, else near-duplicates",
    ),
]


def order_of(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder of labelled images, a CSV of them, or a station: https://HOST:PORT."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for what is made, and for cached features.")],
    regime: Literal["auto", "unsupervised", "weak", "mixed", "full"] = "auto",
    backbone: str = "resnet18",
    weights: Annotated[
        str, typer.Option(help="auto (timm's pretrained), none (random), or a safetensors file.")
    ] = "auto",
    image_size: Annotated[str, typer.Option(help="N or HxW, in pixels.")] = "256",
    epochs: Annotated[int | None, typer.Option(min=1, show_default="the preset's")] = None,
    batch: Annotated[int | None, typer.Option(min=2, show_default="the preset's")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    format_: DataFormat = "auto",
    group_by: GroupBy = None,
    head: Annotated[Head | None, typer.Option(show_default="the preset's")] = None,
    variant: Annotated[
        Literal["icpr", "jims"] | None,
        typer.Option(help="What the published classification head sees.", show_default="jims"),
    ] = None,
    adaptor: Annotated[
        Literal["linear", "nonlinear", "none"] | None,
        typer.Option(help="A linear layer, 3 x 3 with ReLU, or none.", show_default="the preset's"),
    ] = None,
    noise: Annotated[
        Literal["gaussian", "learned"] | None,
        typer.Option(
            help="Latent noise, drawn or made by a generator.", show_default="the preset's"
        ),
    ] = None,
    noise_scale: Annotated[
        float | None,
        typer.Option(help="Sigma of drawn noise, limit of learned.", show_default="the preset's"),
    ] = None,
    masks: Annotated[
        int | None,
        typer.Option(min=0, help="See at most so many masks, drawn by seed.", show_default="all"),
    ] = None,
    preset: Literal["default", "published"] = "default",
    name: Annotated[str | None, typer.Option(show_default="DATA's name")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token of a station's HTTP API.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="CA of a station's certificate, besides the system's.")
    ] = None,
    *,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do not go on with a fit that was cut off.")
    ] = False,
) -> "Order":
    """Return the order that the options mean; a station's pictures are fetched first.

    Raises UsageError, and StationError where that fails.
    """
    from ssn_trainer.fit.order import Order  # as above

    station = _station_of(data, format_, token_file, ca_file)
    folder = Path(data) if station is None else folder_of(station, out)
    height, width = _image_size(image_size)
    if noise_scale is not None and not 0 < noise_scale < math.inf:
        msg = f"--noise-scale {noise_scale}: give a number above 0, as 0.25"
        raise UsageError(msg)
    order = Order(
        data=folder,
        out=out,
        name=_check_name(name or _slug(folder.resolve().name)),
        regime=None if regime == "auto" else Regime(regime),
        head=head,
        variant=variant,
        adaptor=adaptor,
        noise=noise,
        noise_scale=noise_scale,
        masks=masks,
        preset=preset,
        backbone=backbone,
        weights=weights,
        height=height,
        width=width,
        epochs=epochs,
        batch=batch,
        seed=seed,
        device=device,
        format=format_,
        group_by=group_by,
        fresh=fresh,
    )
    if station is not None:
        fetch(station, folder, Console(stderr=True))
    return order


def takes_order(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `order_of`; its first argument is the order that they make."""
    shared = inspect.signature(order_of).parameters
    own = list(inspect.signature(command).parameters.values())[1:]
    every = sorted([*shared.values(), *own], key=lambda p: p.kind)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        order = order_of(**{name: given.pop(name) for name in shared})
        command(order, **given)

    run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {p.name: p.annotation for p in every}
    return run


def twins_of(text: str) -> "list[TwinName]":
    """Precisions with a comma between, or `none`, to names. Raises UsageError."""
    from ssn_trainer.pack.twin import TWINS

    names = [] if text == "none" else text.split(",")
    strange = [name for name in names if name not in TWINS]
    if strange:
        msg = f"--precisions {text}: use {', '.join(TWINS)}, several with a comma, or none"
        raise UsageError(msg)
    return [name for name in TWINS if name in names]


def _station_of(
    data: str, layout: Format, token_file: Path | None, ca_file: Path | None
) -> Station | None:
    """Return the station that DATA names; None: it is a folder or a file. Raises UsageError."""
    if not is_url(data):
        if token_file is not None or ca_file is not None:
            msg = f"{data}: --token-file and --ca-file are for the URL of a station; leave them out"
            raise UsageError(msg)
        return None
    if layout not in {"auto", "ledger"}:
        raise UsageError(f"--format {layout}: a station gives its ledger; use --format ledger")
    return Station.of(data, token_file, ca_file)


def _check_name(name: str) -> str:
    """Return a name that a bundle may have. Raises UsageError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        msg = f"--name {name}: use up to 64 lower-case letters, digits, - and _, as screw-m4"
        raise UsageError(msg)
    return name


def _image_size(text: str) -> tuple[int, int]:
    """`N` or `HxW` to (height, width). Raises UsageError."""
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (32 <= height <= 4096 and 32 <= width <= 4096):
        msg = f"--image-size {text}: give N or HxW in pixels, each from 32 to 4096, as 256"
        raise UsageError(msg)
    return height, width


def _slug(text: str) -> str:
    """A folder's name as a bundle's name: lower-case letters, digits, `-` and `_`."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64] or "model"
