"""Segmented micrographs on disk: masks and particles that Fiji, napari and a spreadsheet read.

A folder a micrograph, named like its file: ``mask.tif`` (8 bit, 255 where a particle is),
``particles.tif`` (16 bit, the particles by their numbers), ``probability.tif`` (float16), all with
the pixel size where it is known; ``overlay.png``; ``particles.csv``; and ``result.json``, written
last, without which a micrograph counts as not done.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from numpy.typing import NDArray

from temshift.catalog.files import atomic_folder, atomic_path
from temshift.learning.segmentation import Segmentation
from temshift.microscopy.pictures import stretch
from temshift.microscopy.scale_bars import scale_bar

__all__ = ["SegmentationStore", "SegmentationsDataset"]

#: What a node hands over for each file: its path, what the result depends on, the image, and the
#: result, the reason why there is none, or ``None`` where the result at hand is up to date.
Handed = tuple[str, str, NDArray[Any] | None, Segmentation | str | None]

_INDEX = "index.json"


class SegmentationStore:
    """The segmented micrographs of a folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def up_to_date(self, path: str, identity: str) -> bool:
        """Return whether a file was segmented under just these conditions."""
        result = self._read(path)
        return result is not None and result.get("identity") == identity

    def paths(self) -> list[str]:
        """Return the files of the last run, in its order."""
        index = self.folder / _INDEX
        return list(json.loads(index.read_text())) if index.exists() else []

    def results(self) -> list[dict[str, Any]]:
        """Return what ``result.json`` holds for each file of the last run."""
        return [found for path in self.paths() if (found := self._read(path)) is not None]

    def particles(self) -> pd.DataFrame:
        """Return the particles of all files below each other, with a column ``micrograph``."""
        tables = []
        for path in self.paths():
            file = self.folder / path / "particles.csv"
            if file.exists():
                table = pd.read_csv(file)
                table.insert(0, "micrograph", path)
                tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def overlay(self, path: str) -> bytes:
        """Return the picture of a micrograph with its particles outlined (PNG)."""
        return (self.folder / path / "overlay.png").read_bytes()

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / path / "result.json").read_text())
        except (OSError, ValueError):  # not there, or cut short: it is made again
            return None
        return found


class SegmentationsDataset(AbstractDataset[Iterable[Handed], SegmentationStore]):
    """A folder of segmented micrographs; written one by one, so that little is held.

    Parameters
    ----------
    filepath : str
        The folder.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def content_paths(self) -> Iterator[Path]:
        """Yield what the content lies in."""
        yield Path(self._filepath)

    def load(self) -> SegmentationStore:
        """Return the store; reads nothing."""
        return SegmentationStore(Path(self._filepath))

    def save(self, data: Iterable[Handed]) -> None:
        """Write every micrograph as it comes; earlier ones stay until theirs is replaced.

        Raises
        ------
        DatasetError
            No file was handed over.
        """
        folder, paths = Path(self._filepath), []
        for path, identity, image, result in data:
            paths.append(path)
            if isinstance(result, Segmentation):
                assert image is not None
                _write(folder / path, path, identity, image, result)
            elif result is not None:
                with atomic_folder(folder / path) as place:
                    failed = {"path": path, "identity": identity, "failed": result}
                    (place / "result.json").write_text(json.dumps(failed, indent=1))
        if not paths:
            raise DatasetError(f"{self._filepath}: there was no micrograph to segment")
        with atomic_path(folder / _INDEX) as temporary:
            temporary.write_text(json.dumps(paths, indent=1))
        self._forget(folder, paths)

    def _forget(self, folder: Path, paths: list[str]) -> None:
        """Remove what belongs to no file of the input any more."""
        kept = {folder / path for path in paths}
        for file in list(folder.rglob("result.json")):
            if file.parent not in kept:
                shutil.rmtree(file.parent)

    def _exists(self) -> bool:
        return (Path(self._filepath) / _INDEX).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _write(
    place: Path, path: str, identity: str, image: NDArray[Any], result: Segmentation
) -> None:
    from PIL import Image

    with atomic_folder(place) as folder:
        _tiff(folder / "mask.tif", result.mask, result.pixel_size_nm)
        _tiff(folder / "particles.tif", result.numbered.astype(np.uint16), result.pixel_size_nm)
        _tiff(folder / "probability.tif", result.probability, result.pixel_size_nm)
        result.particles.to_csv(folder / "particles.csv", index=False)
        picture = overlay(image, result.numbered, result.pixel_size_nm)
        Image.fromarray(picture).save(folder / "overlay.png")
        description = {
            "path": path,
            "identity": identity,
            "height_px": result.mask.shape[0],
            "width_px": result.mask.shape[1],
            "pixel_size_nm": result.pixel_size_nm,
            "network": result.network,
            "fold_agreement": result.fold_agreement,
            "sizes": result.sizes,
            "judgement": result.judgement,
            "networks": result.networks.to_dict("records"),
            "notes": result.notes,
        }
        text = json.dumps(_plain(description), indent=1, ensure_ascii=False)
        (folder / "result.json").write_text(text + "\n")


def overlay(
    image: NDArray[Any], numbered: NDArray[np.int32], pixel_size_nm: float | None
) -> NDArray[np.uint8]:
    """Return a picture, (H', W', 3), of an image with its particles outlined and a scale bar.

    Images of more than 2048 px are shown smaller by a whole factor.
    """
    from skimage.segmentation import find_boundaries

    factor = -(-max(image.shape) // 2048)
    rows, columns = (side // factor * factor for side in image.shape)
    small = np.asarray(image[:rows, :columns], np.float32)
    small = small.reshape(rows // factor, factor, columns // factor, factor).mean(axis=(1, 3))
    grey = stretch(small)
    picture = np.repeat(grey[..., None], 3, axis=2)
    edges = find_boundaries(numbered[:rows:factor, :columns:factor], mode="inner")
    picture[edges] = (255, 176, 0)
    return scale_bar(picture, pixel_size_nm * factor if pixel_size_nm else None)


def _tiff(path: Path, array: NDArray[Any], pixel_size_nm: float | None) -> None:
    """Write an image as ImageJ's TIFF where the type allows it, with its pixel size."""
    import tifffile

    options: dict[str, Any] = {"compression": "zlib"}
    if pixel_size_nm:
        # resolution is in pixels a unit; ImageJ takes the unit from the description
        options |= {"resolution": (1 / pixel_size_nm, 1 / pixel_size_nm)}
        options |= {"metadata": {"unit": "nm", "spacing": 1.0, "axes": "YX"}}
    imagej = array.dtype in (np.uint8, np.uint16)
    tifffile.imwrite(path, array, imagej=imagej, resolutionunit=1, **options)


def _plain(value: Any) -> Any:
    """Return plain JSON values; what is not known (NaN) becomes ``null``."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
