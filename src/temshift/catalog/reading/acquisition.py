"""What a header says about the acquisition, under the names of the data contract."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["HYPERSPY_TAGS", "acquisition"]

#: Name in ``Micrograph.metadata``: tags of Digital Micrograph that say it.
_DM_TAGS = {
    "energy_eV": (("Microscope Info", "Voltage"),),
    "exposure_s": (
        ("DataBar", "Exposure Time (s)"),
        ("Acquisition", "Parameters", "High Level", "Exposure (s)"),
        ("Acquisition", "Parameters", "Detector", "exposure (s)"),
    ),
    "magnification": (
        ("Microscope Info", "Indicated Magnification"),
        ("Microscope Info", "Actual Magnification"),
    ),
    "camera": (("DataBar", "Device Name"), ("Acquisition", "Device", "Name")),
    "instrument": (("Session Info", "Microscope"), ("Microscope Info", "Name")),
    "date": (("DataBar", "Acquisition Date"),),
}

#: The same in the metadata of HyperSpy, with the factor to our unit.
HYPERSPY_TAGS: dict[str, tuple[tuple[str, ...], float]] = {
    "energy_eV": (("Acquisition_instrument", "TEM", "beam_energy"), 1e3),
    "exposure_s": (("Acquisition_instrument", "TEM", "Camera", "exposure"), 1.0),
    "magnification": (("Acquisition_instrument", "TEM", "magnification"), 1.0),
    "camera": (("Acquisition_instrument", "TEM", "Camera", "name"), 1.0),
    "instrument": (("Acquisition_instrument", "TEM", "microscope"), 1.0),
    "date": (("General", "date"), 1.0),
}


def acquisition(signal: dict[str, Any]) -> dict[str, Any]:
    """Return what the header of a signal of RosettaSciIO says about the acquisition."""
    metadata = signal.get("metadata", {})
    tags = _get(signal.get("original_metadata", {}), "ImageList", "TagGroup0", "ImageTags") or {}
    found: dict[str, Any] = {}
    for name, places in _DM_TAGS.items():
        values = [v for place in places if (v := _get(tags, *place)) not in (None, "", [])]
        if values:
            found[name] = values[0]
    for name, (place, factor) in HYPERSPY_TAGS.items():
        value = _get(metadata, *place)
        if name not in found and value not in (None, ""):
            if factor == 1:
                found[name] = value
            elif isinstance(value, int | float | np.number):
                found[name] = value * factor
    found.update(_get(metadata, "temshift") or {})  # written by ourselves
    return {name: _plain(value) for name, value in found.items()}


def _get(tree: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _plain(value: Any) -> Any:
    """Return a NumPy number as one of Python."""
    return value.item() if isinstance(value, np.generic) else value
