"""What a column of the micrograph table is."""

from __future__ import annotations

__all__ = ["MICROGRAPH_COLUMNS"]

#: Columns of the micrograph table a split may select on (the data contract).
MICROGRAPH_COLUMNS = (
    "micrograph_id",
    "path",
    "label_path",
    "specimen_id",
    "material",
    "diameter_nm",
    "shape",
    "support",
    "instrument",
    "session",
    "dose_e_per_A2",
    "pixel_size_nm",
    "defocus_A",
    "source",
    "sha256",
)
