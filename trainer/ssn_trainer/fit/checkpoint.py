"""The state of a training on the disk: whole after every epoch, or absent."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ssn_agent.atomic import write_atomically
from ssn_agent.frames import pixels
from ssn_trainer.data import images
from ssn_trainer.fit.state import State

_SOURCE = Path(__file__).resolve().parents[1]


class Checkpoint:
    """One safetensors file, the rest of the state as JSON in its header.

    It belongs to a digest of all that decides the outcome; another training never goes on from it.
    """

    def __init__(self, path: Path, facts: Mapping[str, object], say: Callable[[str], None]) -> None:
        """`facts`: what decides the outcome, as JSON takes it; the code is added to them."""
        self.path = path
        self._say = say
        text = json.dumps({**facts, "code": _code_digest()}, sort_keys=True)
        self._digest = hashlib.sha256(text.encode()).hexdigest()

    def resume(self, state: State) -> None:
        """Bring `state` to where the last finished epoch left it, where there is one to go on from.

        A file of another training, or a damaged one, is said so and passed over.
        """
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        except FileNotFoundError:
            return
        except (OSError, SafetensorError) as error:
            self._say(f"{self.path}: damaged ({error}); training begins anew")
            return
        if header.get("digest") != self._digest:
            self._say(f"{self.path}: of other data, settings or code; training begins anew")
            return
        state.restore(tensors, json.loads(header["state"]))
        self._say(f"going on after epoch {state.epoch}, from {self.path}; --fresh begins anew")

    def write(self, state: State) -> None:
        """Replace the file. Raises OSError."""
        header = {"digest": self._digest, "state": json.dumps(state.facts())}
        write_atomically(self.path, save(state.tensors(), header))

    def remove(self) -> None:
        """Remove the file, and what a write that was killed left beside it."""
        self.path.unlink(missing_ok=True)
        for unfinished in self.path.parent.glob(f".{self.path.name}.*"):
            unfinished.unlink(missing_ok=True)


def _code_digest() -> str:
    """SHA-256 over what decides a training, so that a changed program begins anew."""
    digest = hashlib.sha256()
    modules = [*(_SOURCE / "fit").glob("*.py"), *(_SOURCE / "model").glob("*.py")]
    for path in [*sorted(modules), Path(images.__file__), Path(pixels.__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
