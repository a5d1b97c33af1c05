"""Units of length as microscopes and programs write them, and the pixel size they give."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from temshift.catalog.reading.refusals import RefusedError
from temshift.config.base import PLAUSIBLE_PIXEL_NM

__all__ = ["Axis", "CalibrationError", "axis_of", "pixel_size_nm"]


class CalibrationError(RefusedError):
    """A calibration that gives no pixel size, though the image may be one of a specimen."""


#: Units of length and how many nm they are; micro sign and Greek mu are one letter here.
NM_PER_UNIT = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-3),
    **dict.fromkeys(("å", "a", "ang", "angstrom", "angström", "ångstrom", "ångström"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "μm", "μ", "micron", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}

#: What stands where the image is not calibrated, and units of print, which say nothing of the
#: specimen.
NO_UNIT = {
    *("", "-", "none", "undefined", "unknown", "unit", "arb", "a.u.", "au", "n/a", "nan"),
    *("px", "pix", "pixel", "point", "sample", "dimensionless"),
    *("inch", "inche", "in", '"', "cm", "centimeter", "centimetre", "dpi", "dpcm", "ppi"),
}

#: Relative difference of the two sides of a pixel up to which it is square: headers round.
SQUARE = 0.01

#: Relative difference of the steps of an axis up to which it is uniform.
UNIFORM = 1e-3


@dataclass(frozen=True)
class Axis:
    """Calibration of one axis of an image: length of a pixel in a unit, as the header has it."""

    scale: float = 1.0
    unit: str = ""


def axis_of(entry: dict[str, Any]) -> Axis:
    """Return the calibration of an axis as RosettaSciIO describes it.

    Raises
    ------
    RefusedError
        The pixels along the axis are of different sizes.
    """
    unit = entry.get("units")
    text = "" if unit is None else str(unit)
    if "scale" in entry:
        return Axis(float(entry["scale"]), text)
    if "axis" in entry:
        return Axis(uniform_step(np.asarray(entry["axis"]), str(entry.get("name") or "")), text)
    if "expression" in entry:
        raise RefusedError(
            f"its axis {entry.get('name')!r} is not uniform ({entry['expression']}): its pixels "
            "are of different sizes"
        )
    return Axis()


def uniform_step(values: Any, name: str) -> float:
    """Return the step between the values of an axis, which must be the same everywhere."""
    values = np.asarray(values, np.float64).ravel()
    if values.size < 2:
        return 1.0
    steps = np.diff(values)
    step = float(steps.mean())
    # float32 values of a long axis differ by their own rounding
    noise = 4 * np.finfo(np.float32).eps * float(np.abs(values).max())
    if not np.all(np.abs(steps - step) <= UNIFORM * abs(step) + noise):
        raise RefusedError(
            f"its axis {name!r} is not uniform (steps of {steps.min():.6g} to {steps.max():.6g}): "
            "its pixels are of different sizes"
        )
    return step


def plain_unit(unit: str) -> str:
    """Return a unit in the one form that the tables here use: ``[nm / px]`` → ``nm``."""
    text = unicodedata.normalize("NFKC", unit).strip().lower()
    text = re.sub(r"^[\[<(]+|[\])>]+$", "", text.replace("\x00", "")).strip().replace("_", "")
    text = re.sub(r"\s*(/|\bper\b)\s*(px|pix|pixels?)\.?$", "", text)
    text = text.replace(" ", "").removeprefix("t.")
    one = text.removesuffix("s")
    return one if len(one) > 1 and (one in NM_PER_UNIT or one in NO_UNIT) else text


def is_reciprocal(text: str) -> bool:
    """Return whether a plain unit is one of a diffraction pattern."""
    return "/" in text or "^-" in text or "**-" in text or "⁻" in text or text.endswith("rad")


def pixel_size_nm(axes: Sequence[Axis]) -> float | None:
    """Return the side of a pixel, or ``None`` if the axes are not calibrated.

    Where one axis has no unit, the size is that of the other if the numbers are the same, and
    otherwise unknown.

    Raises
    ------
    CalibrationError
        Units that are no lengths, sizes that cannot be.
    RefusedError
        Units of a diffraction pattern, pixels that are not square.
    """
    units = [plain_unit(axis.unit) for axis in axes]
    known = [i for i, unit in enumerate(units) if unit not in NO_UNIT]
    if not known:
        return None
    for i in known:
        if is_reciprocal(units[i]):
            raise RefusedError(
                f"its pixels are calibrated in {axes[i].unit!r}: it is a diffraction pattern or "
                "a Fourier transform, not an image of the specimen"
            )
        if units[i] not in NM_PER_UNIT:
            raise CalibrationError(
                f"its pixels are calibrated in {axes[i].unit!r}, which is no length: it is no "
                "image of the specimen, or its unit must be mended"
            )
    if len(known) < len(axes):
        scales = [abs(axis.scale) for axis in axes]
        if not max(scales) - min(scales) <= SQUARE * max(scales):
            return None
        units = [units[known[0]]] * len(axes)
    sizes = [abs(a.scale) * NM_PER_UNIT[unit] for a, unit in zip(axes, units, strict=True)]
    low, high = PLAUSIBLE_PIXEL_NM
    for axis, unit, size in zip(axes, units, sizes, strict=True):
        stated = f"{abs(axis.scale):.6g} {axis.unit or unit}"
        said = "its header gives a pixel of " + (
            stated if unit == "nm" else f"{stated} ({size:.6g} nm)"
        )
        if not np.isfinite(size):
            raise CalibrationError(f"{said}, which is no length: its calibration is damaged")
        if size > high:
            raise CalibrationError(
                f"{said}, which is too large for a TEM image (outside of {low:g} … {high:g} nm): "
                "mend its calibration or its unit"
            )
        if size < low:
            raise CalibrationError(
                f"{said}, which is too small for a TEM image (outside of {low:g} … {high:g} nm): "
                "mend its calibration or its unit"
            )
    if max(sizes) - min(sizes) > SQUARE * max(sizes):
        raise RefusedError(
            f"its pixels are not square: {sizes[0]:.6g} × {sizes[1]:.6g} nm by its header"
        )
    return sum(sizes) / len(sizes)
