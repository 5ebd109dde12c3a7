"""Rows: the ledger's disk full, and its file system turned read-only by the kernel."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.counts import Counts
from chaos.report import Bar, Row, at_most, witnessed
from chaos.rig import Rig, rig
from chaos.tally import tally
from support.waiting import wait_until

CAMERAS = 2
FPS = 10.0
SIZE_MIB = 24
WRITTEN_S = 60.0
FIRST_MARKED_S = 60.0


def full(folder: Path, counts: Counts) -> list[Row]:
    """A disk with no byte free, which is given room again."""
    row = Row(
        name="disk-full",
        fault=f"the ledger's disk full for {counts.disk_s:.0f} s",
        counts=counts.name,
    )
    with small_disk(folder) as disk, rig(folder, cameras=CAMERAS) as station:
        station.start(FPS)
        disk.fill()
        marked = _marked_while_away(station, counts.disk_s)
        disk.free()
        return [_finished(row, station, marked)]


def read_only(folder: Path, counts: Counts) -> list[Row]:
    """A file system on which the kernel met an error; it is mounted anew some time later."""
    row = Row(
        name="disk-read-only",
        fault=f"the ledger's file system read-only for {counts.disk_s:.0f} s",
        counts=counts.name,
        notes=[
            "ext4 with errors=remount-ro, an error reported to it",
            "afterwards checked and mounted anew, while the agent has files of the old mount open",
        ],
    )
    with small_disk(folder) as disk, rig(folder, cameras=CAMERAS) as station:
        station.start(FPS)
        disk.fail()
        marked = _marked_while_away(station, counts.disk_s)
        disk.mount_anew()
        return [_finished(row, station, marked)]


def _marked_while_away(station: Rig, away_s: float) -> int:
    """Wait, and return how many verdicts came meanwhile, marked as not durable."""
    wait_until(lambda: _marked(station) > 0, FIRST_MARKED_S, "no verdict that is marked")
    time.sleep(away_s)
    return _marked(station)


def _marked(station: Rig) -> int:
    return sum(not message.durable for message in station.look().received)


def _finished(row: Row, station: Rig, marked: int) -> Row:
    """Wait until the ledger has taken everything, end, compare, check the database."""
    back_at = time.monotonic()
    recovered_s = station.wait_for_recovery(back_at)
    caught_up_s = station.wait_for_delivery(back_at)
    found = tally(station.finish())
    sound = [str(line[0]) for line in station.agent.query("PRAGMA integrity_check")]
    bars = [
        Bar(text="verdicts go on, marked", measured=f"{marked} marked", held=marked > 0),
        Bar(text="integrity_check: ok", measured=", ".join(sound), held=sound == ["ok"]),
        at_most("everything of the outage written and delivered", caught_up_s, WRITTEN_S, " s"),
    ]
    return witnessed(row.model_copy(update={"bars": bars}), found, [recovered_s])


class Disk:
    """A small ext4 in a file, mounted as the agent's data folder."""

    def __init__(self, image: Path, mounted: Path) -> None:
        self._image = image
        self._mounted = mounted

    def mount(self) -> None:
        """Mount it where the agent keeps its ledger."""
        options = "loop,errors=remount-ro"
        subprocess.run(["mount", "-o", options, self._image, self._mounted], check=True)

    def fill(self) -> None:
        """Leave not a byte free."""
        with (self._mounted / "filler").open("ab", buffering=0) as filler:
            for size in (2**20, 4096, 1):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        """Give back what was filled."""
        (self._mounted / "filler").unlink()

    def fail(self) -> None:
        """Report an error to the file system: the kernel makes it read-only, files open or not."""
        device = self._device()
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("drawn error")

    def mount_anew(self) -> None:
        """Do what a technician does: unmount, check, mount."""
        self.unmount()
        subprocess.run(["fsck.ext4", "-fy", self._image], check=False, capture_output=True)
        self.mount()

    def unmount(self) -> None:
        """Unmount, also where files are open."""
        subprocess.run(["umount", "-l", self._mounted], check=True)

    def _device(self) -> str:
        command = ["findmnt", "-no", "SOURCE", str(self._mounted)]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        return Path(found.stdout.strip()).name


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Make the agent's data folder a disk of its own; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    image, mounted = folder / "disk.img", folder / "data"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_MIB * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    disk = Disk(image, mounted)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
