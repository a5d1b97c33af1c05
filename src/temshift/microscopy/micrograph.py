"""The micrograph as plain data, shared by simulation, reading and preprocessing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from temshift.microscopy.bands import row_bands

__all__ = ["Header", "LabelledMicrograph", "Micrograph", "Store", "pixel_sha256"]


@dataclass(frozen=True)
class Micrograph:
    """One image with what is known of its acquisition.

    Attributes
    ----------
    image : ndarray, shape (H, W), float32 (or the file's integer type)
        Detector counts.
    pixel_size_nm : float or None
        Side of a pixel at the specimen, nm; ``None`` if unknown.
    pixel_size_source : {"header", "table", "unknown"}
        Where ``pixel_size_nm`` comes from.
    metadata : dict
        What else the header says, under the names of the data contract where they apply
        (``dose_e_per_A2``, ``energy_eV``, ``exposure_s``, ``magnification``, ``camera`` ...).
    conversion : str
        What was given up in reading, such as colours; empty if nothing.
    """

    image: NDArray[Any]
    pixel_size_nm: float | None = None
    pixel_size_source: Literal["header", "table", "unknown"] = "unknown"
    metadata: dict[str, Any] = field(default_factory=dict)
    conversion: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 2:
            raise ValueError(
                f"a micrograph is one grey image of shape (H, W), found shape {self.image.shape}"
            )
        if self.pixel_size_nm is not None and not self.pixel_size_nm > 0:
            raise ValueError(f"pixel_size_nm must be positive, found {self.pixel_size_nm}")

    def __repr__(self) -> str:
        known = f"{self.pixel_size_nm:.4g} nm" if self.pixel_size_nm else "of unknown size"
        height, width = self.image.shape
        return f"Micrograph: {height} × {width} px, {self.image.dtype}, pixels {known}; .metadata"


def pixel_sha256(pixels: NDArray[Any]) -> str:
    """Return a hash of pixels that does not depend on how they were stored.

    The same values in the same shape give the same hash, whatever the file format, the byte
    order and the number type (compared as float64, which holds integers up to 2**53).

    Parameters
    ----------
    pixels : ndarray, shape (H, W)

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(tuple(map(int, pixels.shape))).encode())
    for rows in row_bands(pixels.shape):
        band = np.ascontiguousarray(pixels[rows], dtype="<f8")
        digest.update((band + 0.0).data)  # -0.0 is 0.0
    return digest.hexdigest()


class Header(Protocol):
    """What a file says of a micrograph without its pixels."""

    @property
    def pixel_size_nm(self) -> float | None:
        """Side of a pixel, nm."""


class Store(Protocol):
    """What reads micrographs (:class:`temshift.catalog.micrographs.MicrographStore` is one).

    A file that cannot be used raises a ``ValueError`` with the attribute ``reason``.
    """

    def read(self, path: str) -> Micrograph:
        """Return a micrograph."""

    def read_header(self, path: str) -> Header:
        """Return its header."""

    def read_label(
        self, path: str, kind: Literal["binary", "instance"] = "binary"
    ) -> NDArray[np.uint8]:
        """Return a mask, shape (H, W), of {0, 1}."""

    def sha256(self, path: str) -> str:
        """Return the hash of a file."""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""

    def paths(self) -> list[str]:
        """Return all files that there are."""


@dataclass(frozen=True)
class LabelledMicrograph:
    """A micrograph with a mask drawn by hand.

    Attributes
    ----------
    name : str
    image : ndarray, shape (H, W)
        Detector counts.
    label : ndarray, shape (H, W), uint8
        Not 0 where a particle is.
    pixel_size_nm, dose_e_per_A2 : float or None
    material : str or None
    """

    name: str
    image: NDArray[Any]
    label: NDArray[np.uint8]
    pixel_size_nm: float | None = None
    dose_e_per_A2: float | None = None
    material: str | None = None
