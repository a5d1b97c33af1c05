"""What a study ends with: example pictures and the report."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io import DatasetError
from kedro_datasets._typing import HTMLPreview, ImagePreview

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_path
from temshift.catalog.previews import captioned, image_preview
from temshift.learning.examples import Example
from temshift.microscopy.pictures import contact_sheet, paint

__all__ = ["ExamplesDataset", "HTMLReportDataset", "PrintedFigureDataset"]

_ARRAYS = ("image", "label", "prediction")


class ExamplesDataset(FileDataset[list[Example], list[Example]]):
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
                "pixel_size_nm": e.pixel_size_nm,
                "shrunk": e.shrunk,
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
        """Show the images side by side, predictions tinted, labels outlined (Kedro-Viz).

        Below each: the image set, which of its micrographs it is, and its Dice.
        """
        examples = self.load()
        if not examples:
            raise DatasetError(f"{self._filepath}: there are no examples to be shown")
        tiles = [
            captioned(
                paint(e.image, e.label == 1, e.prediction == 1),
                f"{e.test_split}: {e.rank}, Dice {e.dice:.2f}",
                e.image.shape[0] // 20,
            )
            for e in examples
        ]
        return image_preview(contact_sheet(tiles, columns), "tinted: prediction; outlined: label")

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()


class HTMLReportDataset(FileDataset[str, str]):
    """A self-contained HTML page.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

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


class PrintedFigureDataset(FileDataset[dict[str, bytes], dict[str, bytes]]):
    """A figure for print as files of several widths and formats.

    Data are the content of each file by the ending of its name (``_85mm.svg``).

    Parameters
    ----------
    filepath : str
        The files without their endings.
    endings : sequence of str
        Of all files.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(
        self, filepath: str, endings: Sequence[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath, metadata)
        self._endings = list(endings)

    def load(self) -> dict[str, bytes]:
        """Return the content of each file."""
        return {ending: self._path(ending).read_bytes() for ending in self._endings}

    def save(self, data: dict[str, bytes]) -> None:
        """Replace all files.

        Raises
        ------
        DatasetError
            Other files are given than the catalog names.
        """
        if sorted(data) != sorted(self._endings):
            raise DatasetError(
                f"{self._filepath}: files {sorted(data)} are given, but the catalog names "
                f"{sorted(self._endings)}. Set 'endings' of the dataset to what is drawn"
            )
        for ending, content in data.items():
            with atomic_path(self._path(ending)) as temporary:
                temporary.write_bytes(content)

    def preview(self) -> HTMLPreview:
        """Show the widest drawing in SVG (Kedro-Viz)."""
        widest = [ending for ending in self._endings if ending.endswith(".svg")][-1]
        return HTMLPreview(self._path(widest).read_text(encoding="utf-8").split("?>", 1)[-1])

    def _path(self, ending: str) -> Path:
        return Path(f"{self._filepath}{ending}")

    def _exists(self) -> bool:
        return all(path.is_file() for path in self.content_paths())

    def content_paths(self) -> list[Path]:
        """Return the files."""
        return [self._path(ending) for ending in self._endings]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "endings": self._endings}
