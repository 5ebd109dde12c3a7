"""Which layout a data set has, and its listing."""

from collections.abc import Callable
from pathlib import Path

from ssn_agent.frames.pixels import IMAGE_SUFFIXES
from ssn_trainer.data.class_folders import list_folder, list_mvtec
from ssn_trainer.data.kolektor import list_ksdd, list_ksdd2
from ssn_trainer.data.listing import Format, Layout, Listing, folders, some
from ssn_trainer.data.tables import LEDGER_FILE, LEDGER_NEEDS, list_csv, list_ledger, read_header
from ssn_trainer.errors import DataError

_LISTERS: dict[Layout, Callable[[Path], Listing]] = {
    "folder": list_folder,
    "mvtec": list_mvtec,
    "ksdd": list_ksdd,
    "ksdd2": list_ksdd2,
    "ledger": list_ledger,
    "csv": list_csv,
}

_WANTED = (
    "wanted are good/ with the good parts and a folder for each defect type, MVTec's train/good "
    "and test/, KolektorSDD's kosNN/PartM.jpg, KolektorSDD2's train/NNNNN_GT.png, the ledger's "
    f"{LEDGER_FILE} ({','.join(LEDGER_NEEDS)}), or a CSV file (image,label)"
)


def list_images(data: Path, format: Format = "auto") -> Listing:  # noqa: A002 -- the option's name
    """List the images of `data` by its layout; `auto` recognises it. None is opened.

    Raises DataError where the layout is not recognised, or `data` is not there.
    """
    if not data.exists():
        msg = f"{data}: no such folder or CSV file; give what holds the images"
        raise DataError(msg)
    try:
        layout = _recognise(data) if format == "auto" else format
        _refuse_kind(data, layout)
        return _LISTERS[layout](data)
    except OSError as error:
        msg = f"{error.filename}: cannot be read ({error.strerror}); check its permissions"
        raise DataError(msg) from error


def _refuse_kind(data: Path, layout: Layout) -> None:
    """Raise DataError for a file where a folder is wanted, and the other way round."""
    if (layout == "csv") is data.is_dir():
        wanted = "a CSV file" if layout == "csv" else "a folder"
        have = "a folder" if data.is_dir() else "a file"
        msg = f"{data}: is {have}, but the format {layout} is {wanted}; name another, or none"
        raise DataError(msg)


def _recognise(data: Path) -> Layout:
    if data.is_file():
        if data.suffix.lower() == ".csv":
            return "csv"
        msg = f"{data}: neither a folder nor a CSV file by its name; give one of them"
        raise DataError(msg)
    table = data / LEDGER_FILE
    header = read_header(table, LEDGER_NEEDS) if table.is_file() else []
    if set(LEDGER_NEEDS) <= set(header):
        return "ledger"  # whatever folders its images lie in
    found: dict[Layout, bool] = {
        "folder": (data / "good").is_dir(),
        "mvtec": any((data / part / "good").is_dir() for part in ("train", "test")),
        "ksdd2": any(any((data / part).glob("*_GT.png")) for part in ("train", "test")),
        "ksdd": any(any(f.glob("Part*.jpg")) for f in folders(data) if f.name.startswith("kos")),
    }
    fits = [layout for layout, fit in found.items() if fit]
    if len(fits) == 1:
        return fits[0]
    if fits:
        msg = f"{data}: fits more than one layout ({', '.join(fits)}); name one with --format"
        raise DataError(msg)
    listed = f" and a {table.name} with the columns {','.join(header)}" if header else ""
    msg = f"{data}: its layout is not known: it holds {_seen(data)}{listed}; {_WANTED}"
    raise DataError(msg)


def _seen(data: Path) -> str:
    """Say in words what a folder of no known layout holds."""
    held = folders(data)
    if held:
        return f"no folder good/ (there is: {some(f.name for f in held)})"
    files = [p.name for p in sorted(data.iterdir()) if p.is_file()]
    images = [name for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if images:
        return f"image files but no class folders ({some(images)})"
    return f"no folders and no images ({some(files)})" if files else "nothing"
