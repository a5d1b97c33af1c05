"""What a study ends with: example pictures and the report."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import HTMLPreview, ImagePreview
from numpy.typing import NDArray

from temshift.catalog.files import atomic_path
from temshift.learning.examples import Example

__all__ = ["ExamplesDataset", "HTMLReportDataset"]

_ARRAYS = ("image", "label", "prediction")


class ExamplesDataset(AbstractDataset[list[Example], list[Example]]):
    """Example micrographs of one network in a compressed NumPy archive.

    ``index`` holds one JSON object an example; ``<i>_image``, ``<i>_label`` and ``<i>_prediction``
    its arrays.

    Parameters
    ----------
    filepath : str
        The ``.npz`` file.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> list[Example]:
        """Read all examples.

        Raises
        ------
        DatasetError
            The file is no such archive.
        """
        try:
            with np.load(Path(self._filepath), allow_pickle=False) as archive:
                return [
                    Example(**fields, **{name: archive[f"{i}_{name}"] for name in _ARRAYS})
                    for i, fields in enumerate(json.loads(str(archive["index"])))
                ]
        except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DatasetError(
                f"{self._filepath}: no archive of examples ({error}). Delete it and evaluate again"
            ) from error

    def save(self, data: list[Example]) -> None:
        """Replace the file; the same examples give the same bytes."""
        index = [
            {
                "test_split": e.test_split,
                "micrograph_id": e.micrograph_id,
                "rank": e.rank,
                "dice": e.dice,
            }
            for e in data
        ]
        arrays: dict[str, Any] = {
            f"{i}_{name}": getattr(example, name)
            for i, example in enumerate(data)
            for name in _ARRAYS
        }
        with atomic_path(Path(self._filepath)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, index=np.array(json.dumps(index)), **arrays)

    def preview(self, columns: int = 6) -> ImagePreview:
        """Show the images with their predictions outlined, side by side (Kedro-Viz)."""
        return ImagePreview(_contact_sheet(self.load(), columns))

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def content_paths(self) -> list[Path]:
        """Return the file."""
        return [Path(self._filepath)]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class HTMLReportDataset(AbstractDataset[str, str]):
    """A self-contained HTML page.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def load(self) -> str:
        """Return the page's source."""
        return Path(self._filepath).read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Replace the page."""
        with atomic_path(Path(self._filepath)) as temporary:
            temporary.write_text(data, encoding="utf-8")

    def preview(self) -> HTMLPreview:
        """Show the page (Kedro-Viz)."""
        return HTMLPreview(self.load())

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def content_paths(self) -> list[Path]:
        """Return the file."""
        return [Path(self._filepath)]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _contact_sheet(examples: list[Example], columns: int) -> str:
    """Return a PNG of all examples, base64: grey image, prediction tinted, label outlined."""
    from PIL import Image

    if not examples:
        raise DatasetError("there are no examples to be shown")
    side = max(max(e.image.shape) for e in examples)
    rows = -(-len(examples) // columns)
    sheet = np.full((rows * side, min(columns, len(examples)) * side, 3), 255, np.uint8)
    for i, example in enumerate(examples):
        row, column = divmod(i, columns)
        height, width = example.image.shape
        colour = np.repeat(example.image[..., None], 3, axis=2).astype(float)
        predicted = example.prediction == 1
        colour[predicted] = 0.6 * colour[predicted] + 0.4 * np.array([0, 158, 115])
        colour[_outline(example.label == 1)] = [230, 159, 0]
        sheet[row * side :, column * side :][:height, :width] = colour.astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: NDArray[np.bool_] = mask & ~inner
    return outline
