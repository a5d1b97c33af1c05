"""Masks of particles: which pixels of a picture are particles.

A mask is read if it is unmistakably two-valued; a grey edge or a third colour would be a guess.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from temshift.catalog.reading.found import Found
from temshift.catalog.reading.refusals import RefusedError
from temshift.microscopy.mask_values import as_particles

__all__ = ["any_mask", "binary_mask", "instance_mask"]

#: Values of particles in a mask of two values, as bytes, 16-bit numbers and signed bytes.
_ONES = (1, 255, 65535, -1)

_INSTANCES = "set curation.label_kind: instance"


def binary_mask(found: Found) -> NDArray[np.uint8]:
    """Return 1 where a particle is, of a mask of two values.

    Read are numbers {0, 1}, {0, 255} and {0, 65535}; black and one colour; transparent and one
    colour. Of a palette, number 0 must be the background. In a TIFF that shows 0 white
    (WhiteIsZero), particles are white as well.

    Parameters
    ----------
    found : Found

    Returns
    -------
    ndarray, shape (H, W), uint8

    Raises
    ------
    RefusedError
        Other values or colours, or a palette that contradicts its numbers.
    """
    pixels = _pixels(found)
    if found.palette is not None and not _is_plain_grey(found.palette, pixels):
        return _by_palette(pixels, found.palette)
    if pixels.ndim == 3:
        grey = _grey_of(pixels)
        if grey is None:
            return _by_colour(pixels)
        pixels = grey
    values = _values(pixels)
    if not any(np.isin(values, (0, one)).all() for one in _ONES):
        shown = ", ".join(f"{v:g}" for v in values[:6]) + (" …" if len(values) > 6 else "")
        raise RefusedError(
            f"a mask must hold {{0, 1}} or {{0, 255}} only, found {len(values)} values "
            f"({shown}). {_hint(pixels)}"
        )
    return ((pixels == 0) if found.white_is_zero_of is not None else (pixels != 0)).astype(np.uint8)


def instance_mask(found: Found) -> NDArray[np.uint8]:
    """Return 1 where a particle is, of a mask that numbers or colours the particles.

    Number 0, black and transparent pixels are background. Numbers and colours are taken for
    particles only if they lie together, which grey levels do not
    (:func:`temshift.microscopy.mask_values.as_particles`).

    Raises
    ------
    RefusedError
        Values that are NaN or infinite; an image with grey levels.
    """
    pixels = _pixels(found)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise RefusedError("the mask holds values that are NaN")
    if pixels.ndim == 3:
        grey = _grey_of(pixels)
        pixels = _numbered(pixels) if grey is None else grey
    try:
        return as_particles(pixels).astype(np.uint8)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def any_mask(found: Found) -> NDArray[np.uint8]:
    """Return 1 where a particle is, of a mask of two values or one that numbers its particles.

    For masks that were made elsewhere, of which nobody says what they hold.

    Raises
    ------
    RefusedError
        It is an image with grey levels.
    """
    try:
        return binary_mask(found)
    except RefusedError:
        return instance_mask(found)


def _hint(pixels: NDArray[Any]) -> str:
    """Say how a mask of several values can be used."""
    try:
        as_particles(pixels)
    except ValueError:
        return "They do not number particles either: set a threshold, and save two values"
    return f"If they number the particles, {_INSTANCES}"


def _numbered(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return a number for each colour, 0 for black and transparent pixels."""
    visible, colours = _split_alpha(pixels)
    particle = (colours != 0).any(axis=-1)
    if visible is not None:
        particle &= visible
    # with alpha: soft edges of a colour are grey levels, too
    _, numbers = np.unique(pixels[particle], axis=0, return_inverse=True)
    numbered = np.zeros(particle.shape, np.int64)
    numbered[particle] = numbers.ravel() + 1
    return numbered


def _pixels(found: Found) -> NDArray[Any]:
    if found.pixels is None:
        raise ValueError("only the header was read")
    return found.pixels


def _values(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a mask; counting bytes is much faster than sorting all pixels."""
    if pixels.dtype == np.uint8:
        return np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    return np.unique(pixels)


def _is_plain_grey(palette: NDArray[np.uint8], pixels: NDArray[Any]) -> bool:
    """Return whether the numbers in use are their own grey levels."""
    used = _values(pixels)
    used = used[used < len(palette)]
    return bool((palette[used, :3] == used[:, None]).all() and (palette[used, 3] == 255).all())


def _by_palette(numbers: NDArray[Any], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    used = _values(numbers)
    if used.size and used.max() >= len(palette):
        raise RefusedError("it is damaged: some of its numbers have no colour in its palette")
    shown = palette[used].copy()
    shown[shown[:, 3] == 0] = 0
    background = (shown[:, 3] == 0) | (shown[:, :3] == 0).all(axis=1)
    particles = np.unique(shown[~background], axis=0)
    clear = len(particles) <= 1 and (used[0] != 0 or background[0])
    if not clear:
        colours = ", ".join(f"{n}: {tuple(map(int, palette[n, :3]))}" for n in used[:4])
        raise RefusedError(
            "a mask must be of two colours, black (number 0) and another; this one's palette has "
            f"{colours}{' …' if len(used) > 4 else ''}. If 0 is the background and all other "
            f"numbers are particles, {_INSTANCES}"
        )
    particle = np.zeros(len(palette), np.uint8)
    particle[used] = ~background
    return particle[numbers]


def _split_alpha(pixels: NDArray[Any]) -> tuple[NDArray[np.bool_] | None, NDArray[Any]]:
    """Return where a picture is opaque (``None`` if everywhere) and its colours."""
    n = pixels.shape[2]
    if n not in (2, 4):
        return None, pixels
    alpha, colours = pixels[..., -1], pixels[..., :-1]
    first = alpha.flat[0]
    if (alpha == first).all() and first != 0:
        return None, colours
    return alpha != 0, colours


def _grey_of(pixels: NDArray[Any]) -> NDArray[Any] | None:
    """Return the one channel of a picture that is grey and opaque, ``None`` of others."""
    visible, colours = _split_alpha(pixels)
    first = colours[..., 0]
    if visible is not None:
        return None
    if not all(np.array_equal(first, colours[..., c]) for c in range(1, colours.shape[2])):
        return None
    return first


def _by_colour(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    visible, colours = _split_alpha(pixels)
    if visible is not None:
        top = pixels[..., -1].max()
        if not np.isin(pixels[..., -1], (0, top)).all():
            raise RefusedError(
                "a mask must hold {0, 1} or {0, 255} only, this one has half-transparent edges: "
                "binarise it"
            )
        opaque = colours[visible]
        if opaque.size and not (opaque == opaque[0]).all():
            _refuse_colours("transparent pixels and more than one colour")
        return visible.astype(np.uint8)
    particle = (colours != 0).any(axis=-1)
    shown = colours[particle]
    if not (shown == shown[0]).all():
        _refuse_colours("more than one colour beside black")
    return particle.astype(np.uint8)


def _refuse_colours(found: str) -> None:
    raise RefusedError(
        f"a mask must be grey, or black and one colour; this one has {found}. If each colour is a "
        f"particle and black none, {_INSTANCES}"
    )
