"""The defects: each paints one on the scene's canvas and returns how far it covers each pixel."""

from collections.abc import Callable

import cv2
import numpy as np

from ssn_agent.demo.scene import Floats, Scene, window


def _scratch(scene: Scene, rng: np.random.Generator) -> Floats:
    """A thin line across the turning marks: a furrow, bright along one flank."""
    length = float(rng.uniform(45, 130)) * scene.scale
    middle = scene.at(float(rng.uniform(0.36, 0.88)) * scene.radius, float(rng.uniform(0, 6.28)))
    heading, bend = rng.uniform(0, np.pi), rng.normal(0, 0.006) / scene.scale
    steps = np.linspace(-length / 2, length / 2, 24)
    headings = heading + bend * steps + np.cumsum(rng.normal(0, 0.03, 24))
    path = np.cumsum(length / 23 * np.stack([np.cos(headings), np.sin(headings)], 1), 0)  # [24, 2]
    path += np.array(middle) - path[12]
    line = np.zeros(scene.canvas.shape, np.uint8)
    thickness = max(1, round(float(rng.uniform(2.2, 4.2)) * scene.scale))
    points = np.round(path * 16).astype(np.int32)
    for k in range(23):
        force = int(255 * min(1.0, 0.45 + 0.14 * min(k, 22 - k)))
        ends = points[k].tolist(), points[k + 1].tolist()
        cv2.line(line, *ends, force, thickness, cv2.LINE_AA, 4)
    cover = line.astype(np.float32) * scene.metal / np.float32(255)
    depth = np.float32(rng.uniform(85, 125))
    flank = np.zeros_like(cover)
    flank[1:, 1:] = cover[:-1, :-1]
    sign = np.float32(1 if rng.random() < 0.5 else -1)
    scene.canvas += sign * depth * cover - sign * np.float32(0.5) * depth * flank * scene.metal
    covered: Floats = np.maximum(cover, flank * scene.metal)
    return covered


def _dent(scene: Scene, rng: np.random.Generator) -> Floats:
    """A shallow hollow: its far slope catches the lamp, its near slope lies dark."""
    radius = float(rng.uniform(9, 17)) * scene.scale
    spot = _free_spot(scene, rng, radius)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    rows, cols, x, y = window(scene.canvas.shape, spot, 2.4 * radius)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = (-x * np.sin(turn) + y * np.cos(turn)) / squeeze
    square = (along**2 + across**2) / radius**2
    fall = np.exp(-1.4 * square)
    toward = (x * np.cos(scene.lamp) + y * np.sin(scene.lamp)) / radius
    depth = float(rng.uniform(70, 125))
    share = scene.metal[rows, cols]
    scene.canvas[rows, cols] -= share * depth * (1.5 * toward * fall + 0.3 * fall)
    cover = np.zeros_like(scene.canvas)
    cover[rows, cols] = share * np.exp(-0.7 * square)
    return cover


def _stain(scene: Scene, rng: np.random.Generator) -> Floats:
    """A dried drop: irregular, darker than the metal, darkest along its rim."""
    radius = float(rng.uniform(11, 24)) * scene.scale
    spot = _free_spot(scene, rng, 0.7 * radius)
    rows, cols, x, y = window(scene.canvas.shape, spot, 2.2 * radius)
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


def _chip(scene: Scene, rng: np.random.Generator) -> Floats:
    """A piece broken out of the outer edge, with a bright fracture along the break."""
    depth, half = float(rng.uniform(7, 14)) * scene.scale, float(rng.uniform(8, 17)) * scene.scale
    turn = float(rng.uniform(0, 2 * np.pi))
    spot = scene.at(scene.radius, turn)
    rows, cols, x, y = window(scene.canvas.shape, spot, 2.2 * (depth + half))
    inward = -(x * np.cos(turn) + y * np.sin(turn))
    along = -x * np.sin(turn) + y * np.cos(turn)
    bite = depth * (1 - (along / half) ** 2)
    for k in range(1, 4):
        wave = rng.normal(0, 0.22 / k), rng.uniform(0, 6.28)
        bite += depth * wave[0] * np.cos(k * 3 * along / half + wave[1])
    near = np.abs(along) < 1.3 * half
    gone = np.clip(bite - inward + 0.5, 0, 1) * near
    broken = np.clip(bite + 4 * scene.scale - inward + 0.5, 0, 1) * near * scene.metal[rows, cols]
    canvas = scene.canvas[rows, cols]
    canvas += broken * (float(rng.uniform(185, 225)) - canvas)
    canvas += gone * (scene.belt[rows, cols] - canvas)
    cover = np.zeros_like(scene.canvas)
    cover[rows, cols] = broken
    return cover


PAINTERS: dict[str, Callable[[Scene, np.random.Generator], Floats]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "chip": _chip,
}


def _free_spot(scene: Scene, rng: np.random.Generator, radius: float) -> tuple[float, float]:
    """Choose a place on the face where a disc of that radius touches neither hole nor edge."""
    while True:
        distance = float(rng.uniform(0.3, 0.96)) * scene.radius
        spot = scene.at(distance, float(rng.uniform(0, 2 * np.pi)))
        if distance + radius > 0.96 * scene.radius or distance - radius < 0.34 * scene.radius:
            continue
        clear = radius + 1.3 * scene.hole_radius
        if all(np.hypot(spot[0] - x, spot[1] - y) > clear for x, y in scene.holes):
            return spot
