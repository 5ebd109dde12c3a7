"""An export takes seconds: a network that was exported once in this process is not again."""

import hashlib
from collections.abc import Iterator

import pytest

from ssn_trainer.model.network import Network
from ssn_trainer.pack import bundle as packing
from ssn_trainer.pack.export import export_onnx


@pytest.fixture(scope="session", autouse=True)
def remembered_exports() -> Iterator[None]:
    """Let `pack` take the graph of the very same network from before; import it to use it."""
    graphs: dict[str, bytes] = {}

    def remembered(network: Network) -> bytes:
        key = _identity(network.cpu().eval())
        if key not in graphs:
            graphs[key] = export_onnx(network)
        return graphs[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "export_onnx", remembered)
        yield


def _identity(network: Network) -> str:
    """Digest all that a graph is made from: modules, their plain attributes and their numbers."""
    found = hashlib.sha256(str(network).encode())
    for module in network.modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, tuple))}
        found.update(repr(sorted(plain.items())).encode())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        found.update(name.encode())
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()
