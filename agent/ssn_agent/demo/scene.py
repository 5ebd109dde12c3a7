"""The drawn part and its place: belt, shadow, metal, holes, engraving, dust, lamp, lens, sensor.

Lengths are in pixels, angles in radians, directions in image coordinates (y downwards), and what is
drawn is reflectance in gray levels until `expose` makes the camera's picture of it.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ssn_agent.frames.pixels import Pixels

Floats = NDArray[np.float32]

HOLES = 6
"""Bolt holes of a part."""


@dataclass
class Scene:
    """What has been drawn so far. Arrays are float32, [H, W]."""

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
        """Radius of a bolt hole."""
        return 0.095 * self.radius

    def at(self, distance: float, angle: float) -> tuple[float, float]:
        """Return x, y of a point on the part, by its distance from the centre and its angle."""
        x, y = self.centre
        return x + distance * float(np.cos(angle)), y + distance * float(np.sin(angle))


def stream(seed: int, purpose: int) -> np.random.Generator:
    """Return the random stream of a seed for one purpose; no two pairs share one."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose,))))


@lru_cache(maxsize=4)
def _belt_texture(height: int, width: int) -> Floats:
    """Woven rubber with wear marks along its travel, twice the frame, one belt for all parts."""
    rng = stream(0, 0)
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
    noise = stream(0, 1).standard_normal((512, 512), np.float32)
    around = np.tile(noise, (3, 3))  # so that the marks close on themselves
    fine = cv2.GaussianBlur(around, (0, 0), sigmaX=0.7, sigmaY=30)[512:1024, 512:1024]
    broad = cv2.GaussianBlur(around, (0, 0), sigmaX=3.0, sigmaY=14)[512:1024, 512:1024]
    return np.ascontiguousarray(fine / fine.std() + 0.7 * broad / broad.std())


def lay_part(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Lay a turned part, without holes yet, on the belt; [H, W] = `size`."""
    height, width = size
    scale = min(height / 480, width / 640)
    texture = _belt_texture(height, width)
    top, left = int(rng.integers(height)), int(rng.integers(width))
    belt = texture[top : top + height, left : left + width] * np.float32(rng.uniform(0.85, 1.15))
    dx, dy = rng.uniform(-26, 26) * scale, rng.uniform(-18, 18) * scale
    scene = Scene(
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
    for k in range(HOLES):
        angle = scene.rotation + 2 * np.pi * k / HOLES
        scene.holes.append(scene.at(0.70 * scene.radius, angle))
    lamp_x, lamp_y = np.cos(scene.lamp), np.sin(scene.lamp)
    x, y = scene.centre
    cast = disc_cover(size, (x - 9 * scale * lamp_x, y - 9 * scale * lamp_y), scene.radius)
    scene.belt = belt * (1 - 0.55 * cv2.blur(cast, (_odd(21 * scale), _odd(21 * scale))))
    scene.canvas = scene.belt.copy()
    scene.metal = np.zeros(size, np.float32)
    _turn(scene, rng)
    return scene


def _turn(scene: Scene, rng: np.random.Generator) -> None:
    """Put the turned part on the belt: hub inside a groove, bolt ring, step, rim, chamfer."""
    rows, cols, x, y = window(scene.canvas.shape, scene.centre, scene.radius + 2)
    # [h, w] each, the window around the part
    grid_x, grid_y = np.broadcast_arrays(x, y)
    distance, angle = cv2.cartToPolar(grid_x.copy(), grid_y.copy())
    rho = distance / np.float32(scene.radius)
    rhos = np.linspace(0, 2, 1024)
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
    turns = np.linspace(0, 2 * np.pi, 1024)
    # Turned metal shines in two opposite sectors, like a compact disc.
    sheen = np.cos(turns - scene.lamp + rng.normal(0, 0.15))
    lobes = 1 + rng.uniform(0.16, 0.26) * (2 * sheen**4 - 0.6)
    toward = np.cos(turns - scene.lamp)
    ring = (rho * np.float32(1023 / 2)).astype(np.int32)
    sector = (angle * np.float32(1023 / (2 * np.pi))).astype(np.int32)
    offset_rho, offset_angle = np.float32(rng.uniform(0, 512)), np.float32(rng.uniform(0, 512))
    marks = cv2.remap(
        _turning_marks(),
        rho * np.float32(400) + offset_rho,
        angle * np.float32(512 / (2 * np.pi)) + offset_angle,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    marks *= np.float32(rng.uniform(2.6, 4.2))
    face = (level.astype(np.float32)[ring] + marks) * lobes.astype(np.float32)[sector]
    face += tilt.astype(np.float32)[ring] * toward.astype(np.float32)[sector]
    share = np.clip(np.float32(scene.radius + 0.5) - distance, 0, 1)
    scene.metal[rows, cols] = share
    canvas = scene.canvas[rows, cols]
    canvas += (face - canvas) * share


def drill(scene: Scene, missing: int | None) -> None:
    """Drill the bolt holes but the missing one, and the bore with its keyway."""
    bolts = [centre for k, centre in enumerate(scene.holes) if k != missing]
    for centre in bolts:
        _hole(scene, centre, scene.hole_radius, 0.0)
    _hole(scene, scene.centre, 0.25 * scene.radius, 0.07 * scene.radius)


def _hole(scene: Scene, centre: tuple[float, float], radius: float, key: float) -> None:
    """Cut a chamfered hole, with a keyway of half width `key` at the part's rotation if > 0."""
    sink = 3.5 * scene.scale
    reach = radius + 2 * key + sink + 2
    rows, cols, x, y = window(scene.canvas.shape, centre, reach)
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


def engrave(scene: Scene, rng: np.random.Generator) -> None:
    """Write the serial number on the bolt ring, between two holes."""
    text = f"F{rng.integers(100, 1000)}-{rng.integers(1000, 10000)}"
    plate = np.zeros((24, 120), np.uint8)
    cv2.putText(plate, text, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.55, 255, 1, cv2.LINE_AA)
    size = 0.58 * scene.scale
    turn = scene.rotation + np.pi / HOLES
    x, y = scene.at(0.70 * scene.radius, turn)
    cos, sin = size * np.cos(turn + np.pi / 2), size * np.sin(turn + np.pi / 2)
    place = np.array([[cos, -sin, x - 60 * cos + 12 * sin], [sin, cos, y - 60 * sin - 12 * cos]])
    height, width = scene.canvas.shape
    ink = cv2.warpAffine(plate, place, (width, height), flags=cv2.INTER_LINEAR)
    scene.canvas -= ink.astype(np.float32) * np.float32(rng.uniform(0.2, 0.32))


def sprinkle_dust(scene: Scene, rng: np.random.Generator) -> None:
    """Scatter specks of dust, which are no defect, over part and belt."""
    height, width = scene.canvas.shape
    for _ in range(int(rng.integers(6, 22))):
        spot = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        radius = float(rng.uniform(0.5, 1.5)) * scene.scale
        lift = np.float32(rng.choice([-1, 1]) * rng.uniform(6, 20))
        rows, cols, x, y = window(scene.canvas.shape, spot, radius + 2)
        scene.canvas[rows, cols] += lift * np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)


def expose(canvas: Floats, scale: float, rng: np.random.Generator) -> Pixels:
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
    picture: Pixels = np.clip(seen + np.float32(0.5), 0, 255).astype(np.uint8)
    return picture


def disc_cover(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Floats:
    """Return how far a disc covers each pixel, [H, W] in [0, 1]."""
    picture = np.zeros(size, np.uint8)
    place = round(centre[0] * 16), round(centre[1] * 16)
    cv2.circle(picture, place, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
    cover: Floats = picture.astype(np.float32) / np.float32(255)
    return cover


def window(
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
