"""Segmented micrographs on disk: masks and particles that Fiji, napari and a spreadsheet read.

A folder a micrograph, named like its file: ``mask.tif`` (8 bit, 255 where a particle is),
``particles.tif`` (16 bit, the particles by their numbers), ``probability.tif`` (float16), all with
the pixel size where it is known; ``overlay.png``; ``preview.webp`` and ``outlines.json`` for the
page; ``particles.csv``; for each mask made elsewhere a folder ``outside/<file>`` with
``particles.tif``, ``particles.csv`` and ``overlay.png``; and ``result.json``, without which a
micrograph counts as not done. A micrograph takes its place as a whole, so that one that is killed
half way leaves what was there.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_folder, atomic_path
from temshift.catalog.folders import printable
from temshift.config.errors import UserError
from temshift.learning.segmentation import Segmentation, Work
from temshift.microscopy.outlines import particle_outlines
from temshift.microscopy.pictures import PREVIEW_PX, shrink_factor, stretch
from temshift.microscopy.scale_bars import scale_bar
from temshift.progress import bar

__all__ = ["SegmentationStore", "SegmentationsDataset", "overlay"]

_log = logging.getLogger(__name__)

_INDEX = "index.json"
_RESULTS = "micrographs"


class SegmentationStore:
    """The segmented micrographs of a folder.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        entries = self.index()
        failed = sum(bool(entry["failed"]) for entry in entries)
        return (
            f"SegmentationStore('{self.folder}'): {len(entries)} files, {failed} of them not "
            "segmented; .results() a dict a file, .particles() a table"
        )

    def place(self, path: str) -> Path:
        """Return the folder of a micrograph."""
        return self.folder / _RESULTS / path

    def up_to_date(self, path: str, identity: str) -> bool:
        """Return whether a file was segmented under just these conditions."""
        result = self._read(path)
        return bool(identity) and result is not None and result.get("identity") == identity

    def index(self) -> list[dict[str, Any]]:
        """Return the files of the last run, in its order: ``path, failed`` (reason or ``None``)."""
        file = self.folder / _INDEX
        return list(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else []

    def others(self) -> list[str]:
        """Return the micrographs whose masks are here but were not in the last run."""
        results = self.folder / _RESULTS
        here = (file.parent for file in results.rglob("result.json"))
        known = {entry["path"] for entry in self.index()}
        return sorted({place.relative_to(results).as_posix() for place in here} - known)

    def results(self) -> list[dict[str, Any]]:
        """Return what ``result.json`` holds for each file; for those that failed the reason."""
        found = []
        for entry in self.index():
            result = None if entry["failed"] else self._read(entry["path"])
            found.append(result if result is not None else entry)
        return found

    def particles(self) -> pd.DataFrame:
        """Return the particles of all files below each other, with a column ``micrograph``."""
        tables = []
        for entry in self.index():
            file = self.place(entry["path"]) / "particles.csv"
            if not entry["failed"] and file.exists():
                table = pd.read_csv(file)
                table.insert(0, "micrograph", entry["path"])
                tables.append(table)
        filled = [table for table in tables if len(table)] or tables[:1]  # an empty one: no dtypes
        return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()

    def preview(self, path: str) -> bytes:
        """Return the picture of a micrograph with its particles outlined (WebP)."""
        return (self.place(path) / "preview.webp").read_bytes()

    def outlines(self, path: str) -> dict[int, str]:
        """Return the outlines of the largest particles as paths of SVG, by number."""
        file = self.place(path) / "outlines.json"
        return {int(k): v for k, v in json.loads(file.read_text(encoding="utf-8")).items()}

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            text = (self.place(path) / "result.json").read_text(encoding="utf-8")
            found: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):  # not there, or cut short: it is made again
            return None
        return found


class SegmentationsDataset(FileDataset[Iterable[Work], SegmentationStore]):
    """A folder of segmented micrographs; made and written one by one, so that little is held.

    What is up to date is not made again. A file that cannot be segmented is reported, the rest
    done, and what an earlier run made of it stays.

    Parameters
    ----------
    filepath : str
        The folder.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    adds_to = True

    def load(self) -> SegmentationStore:
        """Return the store; reads nothing."""
        return SegmentationStore(Path(self._filepath))

    def save(self, data: Iterable[Work]) -> None:
        """Do the work that is not up to date, micrograph by micrograph.

        Raises
        ------
        UserError
            There was no file, or none that could be segmented; the tables and the page of an
            earlier run then stay as they are.
        """
        store = self.load()
        _remove_leftovers(store.folder)
        index: list[dict[str, Any]] = []
        kept = 0
        total = len(data) if isinstance(data, Sized) else None
        for work in bar(data, total=total, desc="segmenting", unit="micrographs"):
            failed, path = None, printable(work.path)
            if store.up_to_date(work.path, work.identity):
                kept += 1
            else:
                try:
                    image, result = work.run()
                except (ValueError, MemoryError) as error:  # the message is for its reader
                    failed = str(getattr(error, "reason", "") or error)
                    if isinstance(error, MemoryError):
                        failed = f"it does not fit into the memory of this machine: {failed}"
                    _log.warning("not segmented: %s: %s", path, failed)
                else:
                    _write(store.place(work.path), work, image, result)
            index.append({"path": path, "failed": failed})
        broken = [entry for entry in index if entry["failed"] is not None]
        if len(broken) == len(index):
            raise _none_of(broken)
        with atomic_path(store.folder / _INDEX) as temporary:
            text = json.dumps(index, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        _log.info(
            "%d micrograph%s: %d segmented, %d up to date, %d could not be segmented",
            *(len(index), "s" if len(index) != 1 else ""),
            *(len(index) - kept - len(broken), kept, len(broken)),
        )
        if others := store.others():
            _log.info(
                "masks of %d other micrograph%s, segmented before, stay in %s; tables and page "
                "are of this run's (deployment.name=... keeps analyses apart)",
                *(len(others), "s" if len(others) != 1 else "", store.folder / _RESULTS),
            )

    def _exists(self) -> bool:
        return (Path(self._filepath) / _INDEX).exists()


def _none_of(broken: list[dict[str, Any]]) -> UserError:
    """Return the error for files of which none could be segmented."""
    if not broken:
        return UserError(
            "There is nothing to segment in deployment.input",
            "Found no file that is not one of the masks; expected micrographs",
            "Name the folder of the micrographs: --params deployment.input=path",
        )
    files = f"{len(broken)} files" if len(broken) > 1 else "the file"
    first = f"{broken[0]['path']}: {broken[0]['failed']}"
    more = " (the others are told above)" if len(broken) > 1 else ""
    return UserError(
        f"Nothing could be segmented in {files} of deployment.input",
        f"Found {first}{more}; expected a micrograph",
        "Mend the files, or give others: --params deployment.input=path. Masks, tables and page of "
        "earlier runs, if any, are still there",
    )


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run had begun to write."""
    for pattern in (".*.part", ".*.old"):
        for left in list(folder.rglob(pattern)):
            shutil.rmtree(left, ignore_errors=True)


def _write(place: Path, work: Work, image: NDArray[Any], result: Segmentation) -> None:
    from PIL import Image

    with atomic_folder(place) as folder:
        _tiff(folder / "mask.tif", result.mask, result.pixel_size_nm)
        _tiff(folder / "probability.tif", result.probability, result.pixel_size_nm)
        _write_particles(folder, image, result)
        for name, other in result.outside.items():
            own = folder / "outside" / name
            own.mkdir(parents=True)
            _write_particles(own, image, other)
        small = Image.fromarray(overlay(image, result.numbered, result.pixel_size_nm, PREVIEW_PX))
        small.save(folder / "preview.webp", "WEBP", quality=72)
        fine = 0.7 * shrink_factor(result.mask.shape)  # what the picture on the page can show
        outlines = particle_outlines(result.numbered, fine)
        (folder / "outlines.json").write_text(json.dumps(outlines) + "\n", encoding="utf-8")
        description = {
            "path": work.path,
            "failed": None,
            "identity": work.identity,
            "height_px": result.mask.shape[0],
            "width_px": result.mask.shape[1],
            "pixel_size_nm": result.pixel_size_nm,
            "network": result.network,
            "fold_agreement": result.fold_agreement,
            "sizes": result.sizes,
            "fold_means": result.fold_means,
            "n_specks": result.n_specks,
            "judgement": result.judgement,
            "networks": result.networks.to_dict("records"),
            "notes": result.notes,
            "outside": [
                {
                    "file": name,
                    "network": other.network,
                    "sizes": other.sizes,
                    "n_specks": other.n_specks,
                    "judgement": other.judgement,
                    "notes": other.notes,
                }
                for name, other in result.outside.items()
            ],
        }
        text = json.dumps(_plain(description), indent=1, ensure_ascii=False)
        (folder / "result.json").write_text(text + "\n", encoding="utf-8")


def _write_particles(folder: Path, image: NDArray[Any], result: Segmentation) -> None:
    from PIL import Image

    kind = np.uint32 if result.numbered.max(initial=0) >= 2**16 else np.uint16
    _tiff(folder / "particles.tif", result.numbered.astype(kind), result.pixel_size_nm)
    result.particles.to_csv(folder / "particles.csv", index=False)
    picture = Image.fromarray(overlay(image, result.numbered, result.pixel_size_nm))
    picture.save(folder / "overlay.png")


def overlay(
    image: NDArray[Any],
    numbered: NDArray[np.int32],
    pixel_size_nm: float | None,
    longest_px: int = 2048,
) -> NDArray[np.uint8]:
    """Return a picture, (H', W', 3), of an image with its particles outlined and a scale bar.

    Images with a longer side than ``longest_px`` are shown smaller by a whole factor.
    """
    from skimage.segmentation import find_boundaries

    factor = shrink_factor(image.shape, longest_px)
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
