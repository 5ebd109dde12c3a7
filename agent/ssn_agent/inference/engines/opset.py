"""The operator set of an ONNX file, read without any runtime.

Runtimes differ: one refuses an operator set that it does not know, another takes its newest for it.
The file is a protocol buffer (onnx.proto): field 8 of a ModelProto is an OperatorSetIdProto, whose
field 1 is the domain (empty: ONNX's own) and field 2 the version.
"""

from collections.abc import Iterator

from ssn_agent.errors import EngineError

NEWEST = 21
"""The newest that every ONNX Runtime we run on knows: 1.20 is the oldest of them."""

_OPSET_IMPORT, _DOMAIN, _VERSION = 8, 1, 2
_ONNX = (b"", b"ai.onnx")


def check_opset(model: bytes) -> None:
    """Raise EngineError where the bytes are no ONNX model, or one of a newer operator set."""
    try:
        imports = [dict(_fields(value)) for key, value in _fields(model) if key == _OPSET_IMPORT]
        versions = [item[_VERSION] for item in imports if item.get(_DOMAIN, b"") in _ONNX]
        [opset] = versions
    except (IndexError, KeyError, TypeError, ValueError) as error:
        msg = "the model does not load: its file is damaged or no ONNX model; pack it anew"
        raise EngineError(msg) from error
    if not isinstance(opset, int) or opset > NEWEST:
        msg = (
            f"the model does not load: it is of ONNX operator set {opset!r}, and this version "
            f"takes up to {NEWEST}; update the agent, or pack it with a trainer of this version"
        )
        raise EngineError(msg)


def _fields(data: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a message. Raises IndexError, TypeError, ValueError."""
    if isinstance(data, int):
        raise TypeError(data)
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(kind)
        if at + size > len(data):
            raise IndexError(at)
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
