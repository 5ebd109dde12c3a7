"""A drawn production line: turned steel flanges on a conveyor, some of them with a defect.

The order of drawing is the order of the light's way: belt, the part's shadow, turned metal, holes,
engraving, defect, dust, lamp, lens, sensor. Everything follows from one integer; the defect has a
random stream of its own, so the same seed without a defect gives the same part, unharmed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.errors import UsageError
from ssn_agent.frames.pixels import Pixels

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_NAMESPACES = {"train": 1, "serve": 2}
_LOOK, _DEFECT, _FATE = range(3)
_HOLES = 6


@dataclass(frozen=True)
class Part:
    """One part as the camera sees it, with the truth about it."""

    image: Pixels
    """uint8, [H, W] gray."""
    mask: Mask
    """bool, [H, W]: where the defect is; empty on a good part."""
    defect: str | None
    """One of `DEFECTS`, or None on a good part."""


@dataclass
class _Scene:
    """What has been drawn so far; lengths in pixels, reflectance in gray levels."""

    scale: float
    centre: tuple[float, float]
    """x, y."""
    radius: float
    rotation: float
    lamp: float
    """Direction that the light comes from, radians in image coordinates."""
    belt: Floats
    canvas: Floats
    metal: Floats
    """Share of each pixel that is metal, [0, 1]."""
    holes: list[tuple[float, float]]
    """Centres x, y of the bolt holes, the one left out included."""

    @property
    def hole_radius(self) -> float:
        return 0.095 * self.radius

    def at(self, distance: float, angle: float) -> tuple[float, float]:
        """Return x, y of a point on the part, by its distance from the centre and its angle."""
        x, y = self.centre
        return x + distance * float(np.cos(angle)), y + distance * float(np.sin(angle))


def _stream(seed: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose,))))


def draw_part(seed: int, defect: str | None, size: tuple[int, int] = (480, 640)) -> Part:
    """Draw the part of that seed, with the defect or without, [H, W] = `size`.

    The picture follows from the arguments alone. Raises UsageError for an unknown defect or a
    picture under 120 x 160.
    """
    if defect is not None and defect not in DEFECTS:
        msg = f"no defect is called {defect!r}; draw one of {', '.join(DEFECTS)}"
        raise UsageError(msg)
    if size[0] < 120 or size[1] < 160:
        msg = f"a part cannot be drawn on {size[1]} x {size[0]} pixels; take 160 x 120 or more"
        raise UsageError(msg)
    rng, defect_rng = _stream(seed, _LOOK), _stream(seed, _DEFECT)
    scene = _lay_part(rng, size)
    missing = int(defect_rng.integers(_HOLES)) if defect == "missing_hole" else None
    _drill(scene, missing)
    _engrave(scene, rng)
    mask = np.zeros(size, np.bool_)
    if missing is not None:
        mask = _disc(size, scene.holes[missing], 1.25 * scene.hole_radius) > 0.5
    elif defect is not None:
        mask = _PAINTERS[defect](scene, defect_rng) > 0.2
    _sprinkle_dust(scene, rng)
    return Part(image=_expose(scene.canvas, scene.scale, rng), mask=mask, defect=defect)


class ProductionLine:
    """An endless line of parts; each follows from the line's seed and its number.

    "train" and "serve" lines draw from seeds that no two of them share: the namespace, the line's
    seed and the part's number are different digits of one integer.
    """

    def __init__(
        self,
        seed: int,
        defect_rate: float = 0.15,
        namespace: Literal["train", "serve"] = "serve",
        size: tuple[int, int] = (480, 640),
    ) -> None:
        if not 0 <= seed < 2**64:
            msg = f"line seed {seed}: take one from 0 to 2**64 - 1"
            raise UsageError(msg)
        if not 0 <= defect_rate <= 1:
            msg = f"defect rate {defect_rate}: take a share from 0 to 1"
            raise UsageError(msg)
        self._base = (_NAMESPACES[namespace] << 96) | (seed << 32)
        self._defect_rate = defect_rate
        self._size = size

    def part(self, n: int) -> Part:
        """Draw part number `n`, 0 to 2**32 - 1. Raises UsageError outside of that."""
        if not 0 <= n < 2**32:
            msg = f"part number {n}: take one from 0 to 2**32 - 1"
            raise UsageError(msg)
        seed = self._base | n
        fate = _stream(seed, _FATE)
        bad = fate.random() < self._defect_rate
        defect = DEFECTS[int(fate.integers(len(DEFECTS)))] if bad else None
        return draw_part(seed, defect, self._size)


# The part and the place


@lru_cache(maxsize=4)
def _belt_texture(height: int, width: int) -> Floats:
    """Woven rubber with wear marks along its travel, twice the frame, the same belt for all parts."""
    rng = _stream(0, 0)
    shape = (2 * height, 2 * width)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    weave = 2.2 * np.sin(x * 1.15) * np.sin(y * 1.15)
    grain = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 1.0) * 6.0
    wear = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 40, sigmaY=1.5) * 26.0
    clouds = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 25) * 130.0
    texture: Floats = 46.0 + weave + grain + wear + clouds
    return texture


@lru_cache(maxsize=1)
def _turning_marks() -> Floats:
    """Tool marks over (angle, radius), [512, 512]: long along the angle, fine along the radius."""
    noise = _stream(0, 1).standard_normal((512, 512), np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.7, sigmaY=30, borderType=cv2.BORDER_REFLECT)
    broad = cv2.GaussianBlur(noise, (0, 0), sigmaX=3.0, sigmaY=14, borderType=cv2.BORDER_REFLECT)
    return fine / fine.std() + 0.7 * broad / broad.std()


def _lay_part(rng: np.random.Generator, size: tuple[int, int]) -> _Scene:
    height, width = size
    scale = min(height / 480, width / 640)
    texture = _belt_texture(height, width)
    top, left = int(rng.integers(height)), int(rng.integers(width))
    belt = texture[top : top + height, left : left + width] * np.float32(rng.uniform(0.85, 1.15))
    dx, dy = rng.uniform(-26, 26) * scale, rng.uniform(-18, 18) * scale
    scene = _Scene(
        scale=scale,
        centre=(width / 2 + dx, height / 2 + dy),
        radius=float(rng.uniform(176, 184)) * scale,
        rotation=float(rng.uniform(0, 2 * np.pi)),
        lamp=float(rng.normal(-2.2, 0.12)),
        belt=belt,
        canvas=belt,
        metal=belt,
        holes=[],
    )
    for k in range(_HOLES):
        angle = scene.rotation + 2 * np.pi * k / _HOLES
        scene.holes.append(scene.at(0.70 * scene.radius, angle))
    lamp_x, lamp_y = np.cos(scene.lamp), np.sin(scene.lamp)
    x, y = scene.centre
    cast = _disc(size, (x - 9 * scale * lamp_x, y - 9 * scale * lamp_y), scene.radius)
    scene.belt = belt * (1 - 0.55 * cv2.blur(cast, (_odd(21 * scale), _odd(21 * scale))))
    face, scene.metal = _turn_face(scene, rng, size)
    scene.canvas = scene.belt + (face - scene.belt) * scene.metal
    return scene


def _turn_face(
    scene: _Scene, rng: np.random.Generator, size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the turned face (chamfer, face, groove, hub) and the share of metal, [H, W] each."""
    x = np.arange(size[1], dtype=np.float32)[None] - np.float32(scene.centre[0])
    y = np.arange(size[0], dtype=np.float32)[:, None] - np.float32(scene.centre[1])
    # [H, W] each
    distance, angle = cv2.cartToPolar(*(np.ascontiguousarray(a) for a in np.broadcast_arrays(x, y)))
    rho = distance / np.float32(scene.radius)
    # Brightness over the radius: hub inside a groove, bolt ring, shallow step, rim, chamfer.
    rhos = np.linspace(0, 1.2, 1024, dtype=np.float32)
    level = 138.0 + 14 * (rhos < 0.44) - 8 * (rhos > 0.86)
    level += rng.normal(0, 2.0, 1024) + 6 * np.sin(rhos * 40 + rng.uniform(0, 6))
    tilt = np.zeros(1024)  # how much a slope turns to the lamp, outwards positive
    for edge, side in ((0.44, 1), (0.475, -1), (0.86, 1)):
        ramp = np.exp(-(((rhos - edge) / 0.008) ** 2))
        tilt += 30 * side * ramp
        level -= 26 * ramp
    chamfer = rhos > 0.968
    level[chamfer] = 132
    tilt[chamfer] = 46
    index = np.minimum(rho * np.float32(1023 / 1.2), 1023).astype(np.int32)
    # Turned metal shines in two opposite sectors, like a compact disc.
    turns = np.linspace(0, 2 * np.pi, 1024, dtype=np.float32)
    sheen = np.cos(turns - scene.lamp + float(rng.normal(0, 0.15)))
    lobes = (1 + rng.uniform(0.16, 0.26) * (2 * sheen**4 - 0.6)).astype(np.float32)
    toward = np.cos(turns - scene.lamp).astype(np.float32)
    sector = np.minimum(angle * np.float32(1023 / (2 * np.pi)), 1023).astype(np.int32)
    turned = (rng.uniform(0, 2 * np.pi), rng.uniform(0, 60))
    marks = cv2.remap(
        _turning_marks(),
        rho * np.float32(400) + np.float32(turned[1]),
        np.mod(angle + np.float32(turned[0]), np.float32(2 * np.pi)) * np.float32(81.4),
        cv2.INTER_LINEAR,
    )
    strength = np.float32(rng.uniform(2.6, 4.2))
    face = (np.take(level.astype(np.float32), index) + strength * marks) * np.take(lobes, sector)
    face += np.take(tilt.astype(np.float32), index) * np.take(toward, sector)
    metal = np.clip(np.float32(scene.radius + 0.5) - distance, 0, 1)
    return face, metal


def _drill(scene: _Scene, missing: int | None) -> None:
    """Drill the bolt holes but the missing one, and the bore with its keyway."""
    bolts = [centre for k, centre in enumerate(scene.holes) if k != missing]
    for centre in bolts:
        _hole(scene, centre, scene.hole_radius, 0.0)
    _hole(scene, scene.centre, 0.25 * scene.radius, 0.07 * scene.radius)


def _hole(scene: _Scene, centre: tuple[float, float], radius: float, key: float) -> None:
    """Cut a chamfered hole, with a keyway of half width `key` at the part's rotation if > 0."""
    sink = 3.5 * scene.scale
    reach = radius + 2 * key + sink + 2
    rows, cols, x, y = _window(scene.canvas.shape, centre, reach)
    distance = np.hypot(x, y)
    depth = radius - distance  # > 0 inside
    if key > 0:
        along = x * np.cos(scene.rotation) + y * np.sin(scene.rotation)
        across = -x * np.sin(scene.rotation) + y * np.cos(scene.rotation)
        slot = np.minimum(key - np.abs(across), np.minimum(radius + key - along, along))
        depth = np.maximum(depth, slot)
    open_ = np.clip(depth + 0.5, 0, 1)
    bevel = np.clip(depth + sink + 0.5, 0, 1)
    facing = (x * np.cos(scene.lamp) + y * np.sin(scene.lamp)) / np.maximum(distance, 1)
    canvas = scene.canvas[rows, cols]
    canvas += bevel * (128 - 62 * facing - canvas)
    # The wall on the lamp's side throws its shadow into the hole.
    inside = scene.belt[rows, cols] * (0.42 - 0.2 * facing * distance / radius)
    canvas += open_ * (inside - canvas)
    scene.metal[rows, cols] *= 1 - open_


def _engrave(scene: _Scene, rng: np.random.Generator) -> None:
    """Write the serial number on the bolt ring, between two holes."""
    text = f"F{rng.integers(100, 1000)}-{rng.integers(1000, 10000)}"
    plate = np.zeros((24, 120), np.uint8)
    cv2.putText(plate, text, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 255, 1, cv2.LINE_AA)
    size = 0.58 * scene.scale
    turn = scene.rotation + np.pi / _HOLES
    x, y = scene.at(0.70 * scene.radius, turn)
    cos, sin = size * np.cos(turn + np.pi / 2), size * np.sin(turn + np.pi / 2)
    place = np.array([[cos, -sin, x - 60 * cos + 12 * sin], [sin, cos, y - 60 * sin - 12 * cos]])
    height, width = scene.canvas.shape
    ink = cv2.warpAffine(plate, place, (width, height), flags=cv2.INTER_LINEAR)
    scene.canvas -= ink.astype(np.float32) * np.float32(rng.uniform(0.12, 0.2))


def _sprinkle_dust(scene: _Scene, rng: np.random.Generator) -> None:
    """Scatter specks of dust, which are no defect, over part and belt."""
    height, width = scene.canvas.shape
    for _ in range(int(rng.integers(6, 22))):
        spot = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        radius = float(rng.uniform(0.5, 1.5)) * scene.scale
        lift = np.float32(rng.choice([-1, 1]) * rng.uniform(6, 20))
        rows, cols, x, y = _window(scene.canvas.shape, spot, radius + 2)
        scene.canvas[rows, cols] += lift * np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)


def _expose(canvas: Floats, scale: float, rng: np.random.Generator) -> Pixels:
    """Light, focus and read out the scene: gradient, vignette, blur, shot and read noise."""
    height, width = canvas.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope_x, slope_y = rng.normal(0, 0.06, 2).astype(np.float32)
    gain = np.float32(rng.uniform(0.86, 1.14))
    row = gain * (1 + slope_x * x - np.float32(0.05) * x**2)
    light = row + gain * (slope_y * y - np.float32(0.05) * y**2)
    focus = float(rng.uniform(0.45, 0.85)) * max(scale, 0.5)
    seen = cv2.GaussianBlur(canvas * light, (5, 5), focus)
    noise = rng.standard_normal(canvas.shape, np.float32)
    seen += noise * (np.float32(1.1) + np.float32(0.008) * seen)
    return cv2.convertScaleAbs(np.maximum(seen, 0))


# The defects: each paints one on the canvas and returns how far it covers each pixel, [H, W]


def _scratch(scene: _Scene, rng: np.random.Generator) -> Floats:
    """A thin line across the turning marks: a furrow, bright along one flank."""
    length = float(rng.uniform(45, 130)) * scene.scale
    middle = scene.at(float(rng.uniform(0.36, 0.88)) * scene.radius, float(rng.uniform(0, 6.28)))
    heading, bend = rng.uniform(0, np.pi), rng.normal(0, 0.006) / scene.scale
    steps = np.linspace(-length / 2, length / 2, 24)
    headings = heading + bend * steps + np.cumsum(rng.normal(0, 0.03, 24))
    stride = length / 23
    path = np.cumsum(stride * np.stack([np.cos(headings), np.sin(headings)], 1), 0)  # [24, 2]
    path += np.array(middle) - path[12]
    line = np.zeros(scene.canvas.shape, np.uint8)
    thickness = max(1, round(float(rng.uniform(0.8, 2.4)) * scene.scale))
    points = np.round(path * 16).astype(np.int32)
    for k in range(23):
        force = int(255 * min(1.0, 0.45 + 0.14 * min(k, 22 - k)))
        ends = points[k].tolist(), points[k + 1].tolist()
        cv2.line(line, *ends, force, thickness, cv2.LINE_AA, 4)
    cover: Floats = line.astype(np.float32) / 255 * scene.metal
    depth = np.float32(rng.uniform(45, 85))
    flank = np.zeros_like(cover)
    flank[1:, 1:] = cover[:-1, :-1]
    sign = np.float32(1 if rng.random() < 0.5 else -1)
    scene.canvas += sign * depth * cover - sign * np.float32(0.5) * depth * flank * scene.metal
    return np.maximum(cover, flank * scene.metal)


def _dent(scene: _Scene, rng: np.random.Generator) -> Floats:
    """A shallow hollow: its far slope catches the lamp, its near slope lies dark."""
    radius = float(rng.uniform(9, 17)) * scene.scale
    spot = _free_spot(scene, rng, radius)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    rows, cols, x, y = _window(scene.canvas.shape, spot, 1.8 * radius)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = (-x * np.sin(turn) + y * np.cos(turn)) / squeeze
    square = (along**2 + across**2) / radius**2
    fall = np.exp(-1.4 * square)
    toward = (x * np.cos(scene.lamp) + y * np.sin(scene.lamp)) / radius
    depth = float(rng.uniform(70, 125))
    share = scene.metal[rows, cols]
    scene.canvas[rows, cols] -= share * depth * (1.5 * toward * fall + 0.3 * fall)
    cover = np.zeros_like(scene.canvas)
    cover[rows, cols] = share * np.exp(-1.2 * square)
    return cover


def _stain(scene: _Scene, rng: np.random.Generator) -> Floats:
    """A dried drop: irregular, darker than the metal, darkest along its rim."""
    radius = float(rng.uniform(11, 24)) * scene.scale
    spot = _free_spot(scene, rng, 0.7 * radius)
    rows, cols, x, y = _window(scene.canvas.shape, spot, 2.2 * radius)
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    outline = np.full_like(angle, radius)
    for k in range(2, 6):
        outline += radius * rng.normal(0, 0.3 / k) * np.cos(k * angle + rng.uniform(0, 6.28))
    depth = outline - distance  # > 0 inside
    soft = 2.5 * scene.scale
    cover_here = np.clip(depth / soft + 0.5, 0, 1) * scene.metal[rows, cols]
    rim = np.exp(-((depth / (2.2 * scene.scale) - 1) ** 2))
    darkness = float(rng.uniform(0.2, 0.42))
    scene.canvas[rows, cols] *= 1 - cover_here * darkness * (0.8 + 0.5 * rim)
    cover = np.zeros_like(scene.canvas)
    cover[rows, cols] = cover_here
    return cover


def _chip(scene: _Scene, rng: np.random.Generator) -> Floats:
    """A piece broken out of the outer edge, with a bright fracture along the break."""
    depth, half = float(rng.uniform(7, 14)) * scene.scale, float(rng.uniform(8, 17)) * scene.scale
    turn = float(rng.uniform(0, 2 * np.pi))
    spot = scene.at(scene.radius, turn)
    rows, cols, x, y = _window(scene.canvas.shape, spot, 2.2 * (depth + half))
    inward = -(x * np.cos(turn) + y * np.sin(turn))
    along = -x * np.sin(turn) + y * np.cos(turn)
    bite = depth * (1 - (along / half) ** 2)
    for k in range(1, 4):
        wave = rng.normal(0, 0.22 / k), rng.uniform(0, 6.28)
        bite += depth * wave[0] * np.cos(k * 3 * along / half + wave[1])
    share = scene.metal[rows, cols].copy()
    near = (np.abs(along) < 1.3 * half).astype(np.float32)
    gone = np.clip(bite - inward + 0.5, 0, 1) * share * near
    broken = np.clip(bite + 4 * scene.scale - inward + 0.5, 0, 1) * share * near
    canvas = scene.canvas[rows, cols]
    canvas += broken * (float(rng.uniform(185, 225)) - canvas)
    canvas += gone * (scene.belt[rows, cols] - canvas)
    cover = np.zeros_like(scene.canvas)
    cover[rows, cols] = broken
    return cover


_PAINTERS: dict[str, Callable[[_Scene, np.random.Generator], Floats]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "chip": _chip,
}
DEFECTS: tuple[str, ...] = (*_PAINTERS, "missing_hole")
"""The kinds of defect that the line draws."""


def _free_spot(scene: _Scene, rng: np.random.Generator, radius: float) -> tuple[float, float]:
    """Choose a place on the face where a disc of that radius touches neither hole nor edge."""
    while True:
        distance = float(rng.uniform(0.3, 0.96)) * scene.radius
        spot = scene.at(distance, float(rng.uniform(0, 2 * np.pi)))
        if distance + radius > 0.96 * scene.radius or distance - radius < 0.34 * scene.radius:
            continue
        clear = radius + 1.3 * scene.hole_radius
        if all(np.hypot(spot[0] - x, spot[1] - y) > clear for x, y in scene.holes):
            return spot


def _disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Floats:
    """Return how far a disc covers each pixel, [H, W] in [0, 1]."""
    picture = np.zeros(size, np.uint8)
    place = round(centre[0] * 16), round(centre[1] * 16)
    cv2.circle(picture, place, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
    return picture.astype(np.float32) / 255


def _window(
    shape: tuple[int, ...], centre: tuple[float, float], reach: float
) -> tuple[slice, slice, Floats, Floats]:
    """Return the rows and columns within reach of a point, and their offsets x [1, w], y [h, 1]."""
    x, y = centre
    top, bottom = max(0, int(y - reach)), min(shape[0], int(y + reach) + 2)
    left, right = max(0, int(x - reach)), min(shape[1], int(x + reach) + 2)
    columns = np.arange(left, right, dtype=np.float32)[None] - np.float32(x)
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    return slice(top, bottom), slice(left, right), columns, rows


def _odd(length: float) -> int:
    return 2 * round(length / 2) + 1
