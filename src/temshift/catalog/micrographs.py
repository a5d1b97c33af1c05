"""Micrographs and their masks as files: reading any format of the field, writing ``.hspy``.

The formats are read in :mod:`temshift.catalog.reading`, what is a particle in a mask says
:mod:`temshift.catalog.masks`. A file that cannot be read as *one image of the specimen with square
pixels* is refused with its name and the reason, never with a bare exception of a reader.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np
from kedro.io import DatasetError
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_path
from temshift.catalog.folders import files_below, printable
from temshift.catalog.masks import binary_mask, instance_mask
from temshift.catalog.reading.acquisition import HYPERSPY_TAGS
from temshift.catalog.reading.formats import open_image, pixel_files
from temshift.catalog.reading.found import Found, grey, is_picture
from temshift.catalog.reading.refusals import RefusedError, reason_for
from temshift.catalog.reading.units import pixel_size_nm
from temshift.microscopy.micrograph import Micrograph, pixel_sha256
from temshift.progress import bar

__all__ = [
    "MicrographHeader",
    "MicrographReadError",
    "MicrographStore",
    "MicrographsDataset",
    "as_micrograph",
    "label_path_beside",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Saved = tuple[str, Micrograph, NDArray[np.uint8] | None]


class MicrographReadError(ValueError):
    """A file that cannot be used as a micrograph or as a mask.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        What is wrong with it, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class MicrographHeader:
    """What a file says about its micrograph, without the pixels.

    Attributes
    ----------
    shape : (int, int)
        Height and width, px.
    pixel_size_nm : float or None
        ``None`` if the file has no calibration.
    metadata : dict
        As in :class:`~temshift.microscopy.micrograph.Micrograph`.
    """

    shape: tuple[int, int]
    pixel_size_nm: float | None
    metadata: dict[str, Any] = field(default_factory=dict)


def label_path_beside(path: str) -> str:
    """Return where the mask of a saved micrograph lies: ``a/b.hspy`` → ``a/b_label.png``."""
    file = PurePosixPath(path)
    return str(file.with_name(f"{file.stem}_label.png"))


class MicrographStore:
    """The micrographs of a folder; reads a file when asked for it.

    Parameters
    ----------
    folder : Path
        All paths are relative to it.

    Examples
    --------
    >>> store = catalog.load("data_curation.raw.micrographs")  # doctest: +SKIP
    >>> store.paths()[:3], store.signal(store.paths()[0])  # doctest: +SKIP
    """

    #: Whether a file that is there under several names is listed under one.
    _each_once = False

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._told: set[str] = set()

    def __repr__(self) -> str:
        n = len(self.paths())
        return (
            f"MicrographStore('{self.folder}'): {n} files; .paths() lists them, .read(path) gives "
            ".image and .pixel_size_nm, .signal(path) a HyperSpy signal to plot"
        )

    def paths(self) -> list[str]:
        """Return all files below the folder, in order, as paths relative to it.

        Links are followed (:func:`temshift.catalog.folders.files_below`).
        """
        paths, remarks = files_below(self.folder, self._each_once)
        for remark in remarks:
            if remark not in self._told:
                _log.warning("%s", remark)
        self._told.update(remarks)
        return paths

    def exists(self, path: str) -> bool:
        """Return whether there is something of this name; if it is no file, reading it says so."""
        return bool(path) and os.path.lexists(self.folder / path)

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of a file, 64 hexadecimal digits.

        Of a header whose pixels lie in a file of their own (``a.rpl`` and ``a.raw``), of both.
        """
        own = self._file(path)
        with own.open("rb") as file:
            found = hashlib.file_digest(file, "sha256")
        for pixels in pixel_files(own):
            with pixels.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()

    def pixel_sha256(self, path: str) -> str:
        """Return the SHA-256 of a micrograph's pixels, whatever the format of its file.

        See :func:`temshift.microscopy.micrograph.pixel_sha256`.
        """
        return pixel_sha256(self.read(path).image)

    def read(self, path: str) -> Micrograph:
        """Read a micrograph.

        Parameters
        ----------
        path : str

        Returns
        -------
        Micrograph
            Image in the file's own number type; colour pictures as luminance, float32.

        Raises
        ------
        MicrographReadError
            The file is missing or damaged, or is no single image of the specimen: a stack,
            a diffraction pattern, a Fourier transform, pixels that are not square.
        """
        return self._use(path, as_micrograph)

    def read_header(self, path: str) -> MicrographHeader:
        """Read what a file says about its micrograph, without the pixels.

        Raises
        ------
        MicrographReadError
            As :meth:`read`.
        """
        return self._use(path, _header, partial(open_image, header_only=True))

    def read_label(
        self, path: str, kind: Literal["binary", "instance"] = "binary"
    ) -> NDArray[np.uint8]:
        """Read a mask.

        Parameters
        ----------
        path : str
        kind : {"binary", "instance"}
            ``binary``: two values, such as {0, 1} or {0, 255}, or black and one colour;
            ``instance``: 0 (black) is background, any other value a particle.

        Returns
        -------
        ndarray, shape (H, W), uint8
            1 where a particle is.

        Raises
        ------
        MicrographReadError
            The file is missing or damaged, or holds other values.
        """
        return self._use(path, binary_mask if kind == "binary" else instance_mask)

    def signal(self, path: str) -> Any:
        """Return a micrograph as a HyperSpy ``Signal2D``, calibrated in nm where known."""
        import hyperspy.api as hs

        micrograph = self.read(path)
        signal = hs.signals.Signal2D(micrograph.image)
        signal.metadata.General.title = PurePosixPath(path).stem
        signal.metadata.add_dictionary({"temshift": micrograph.metadata})
        if micrograph.pixel_size_nm is not None:
            for axis, name in zip(signal.axes_manager.signal_axes, "xy", strict=True):
                axis.name, axis.scale, axis.units = name, micrograph.pixel_size_nm, "nm"
        return signal

    def _name(self, path: str) -> str:
        return str(self.folder / path)

    def _file(self, path: str) -> Path:
        if not path:
            raise MicrographReadError(str(self.folder), "no file name is given")
        file = self.folder / path
        if printable(path) != path:
            raise MicrographReadError(
                printable(str(file)), "its name is not in UTF-8, as names are here: rename it"
            )
        try:
            status = file.stat()
        except FileNotFoundError as error:
            if file.is_symlink():
                raise MicrographReadError(
                    str(file),
                    f"this is a link to {os.readlink(file)}, where there is no such file: mend the "
                    "link, or delete it",
                ) from error
            raise MicrographReadError(str(file), "there is no such file") from error
        except (OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise MicrographReadError(str(file), f"it cannot be looked at: {text}") from error
        if stat.S_ISDIR(status.st_mode):
            zarr = " (of zspy, only zip files are read)" if file.suffix.lower() == ".zspy" else ""
            raise MicrographReadError(str(file), f"this is a folder, not a file{zarr}")
        if not stat.S_ISREG(status.st_mode):
            raise MicrographReadError(
                str(file), "this is no ordinary file but a pipe, a socket or a device"
            )
        if status.st_size == 0:
            raise MicrographReadError(str(file), "the file is empty")
        return file

    def _use(
        self,
        path: str,
        use: Callable[[Found], T],
        open_file: Callable[[Path], Found] = open_image,
    ) -> T:
        """Open a file and use what it holds; every error becomes :class:`MicrographReadError`."""
        file = self._file(path)
        try:
            return use(open_file(file))
        except RefusedError as refused:
            raise MicrographReadError(str(file), str(refused)) from refused
        except Exception as error:
            raise MicrographReadError(str(file), reason_for(error)) from error


class MicrographsDataset(FileDataset[Iterable[Saved], MicrographStore]):
    """A folder of micrographs and masks.

    Loading gives a :class:`MicrographStore`. Saving takes ``(path, Micrograph, label)`` one by
    one and writes ``path`` (``.hspy``, calibration and acquisition in the header) and, unless the
    label is ``None``, the mask at :func:`label_path_beside` (PNG, {0, 255}); each file is
    replaced only when it is written whole. The same input gives the same bytes.

    Parameters
    ----------
    filepath : str
        The folder.
    metadata : dict, optional
        For Kedro plugins.
    """

    adds_to = True

    def load(self) -> MicrographStore:
        """Return the store of the folder; reads nothing yet.

        Raises
        ------
        DatasetError
            The folder is missing.
        """
        folder = Path(self._filepath)
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: there is no such folder of micrographs. Put them there, or change its "
                "path in the catalog (globals.yml)"
            )
        return MicrographStore(folder)

    def save(self, data: Iterable[Saved]) -> None:
        """Write micrographs and their masks.

        Raises
        ------
        DatasetError
            A path that leaves the folder or is no ``.hspy`` file; a mask of another shape or with
            values other than {0, 1}.
        """
        from PIL import Image

        total = len(data) if isinstance(data, Sized) else None
        for path, micrograph, label in bar(data, total=total, desc="micrographs", unit="files"):
            relative = PurePosixPath(path)
            if relative.is_absolute() or ".." in relative.parts or relative.suffix != ".hspy":
                raise DatasetError(f"{path!r} must be a .hspy file below {self._filepath}")
            if label is not None:
                if label.shape != micrograph.image.shape or label.max(initial=0) > 1:
                    raise DatasetError(
                        f"{path}: the mask must be {{0, 1}} and have the shape of the image, "
                        f"found {label.shape} and {micrograph.image.shape}"
                    )
                with atomic_path(Path(self._filepath / label_path_beside(path))) as temporary:
                    Image.fromarray(label * np.uint8(255)).save(temporary)
            with atomic_path(Path(self._filepath / relative)) as temporary:
                _write_hspy(temporary, relative.stem, micrograph)

    def preview(self) -> ImagePreview:
        """Return the first micrograph as a small PNG with its name and width, for Kedro-Viz."""
        from temshift.catalog.previews import image_preview
        from temshift.microscopy.pictures import stretch

        store = self.load()
        for path in store.paths():
            try:
                micrograph = store.read(path)
            except MicrographReadError:
                continue
            image, pixel_nm = micrograph.image, micrograph.pixel_size_nm
            step = -(-max(image.shape) // 512)
            wide = f"{image.shape[1] * pixel_nm:.3g} nm" if pixel_nm else f"{image.shape[1]} px"
            return image_preview(stretch(image[::step, ::step]), f"{path}, {wide} wide")
        raise DatasetError(f"{self._filepath}: no micrograph in this folder")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir() and any(Path(self._filepath).iterdir())


# Kedro-Viz takes the kind of the preview from this annotation, which must be no string
MicrographsDataset.preview.__annotations__["return"] = ImagePreview


def as_micrograph(found: Found) -> Micrograph:
    """Return what was found in a file as a micrograph."""
    size = pixel_size_nm(found.axes)
    source: Literal["header", "unknown"] = "unknown" if size is None else "header"
    said = "The file holds a colour picture, read as luminance." if is_picture(found) else ""
    return Micrograph(grey(found), size, source, found.metadata, said)


def _header(found: Found) -> MicrographHeader:
    return MicrographHeader(found.shape, pixel_size_nm(found.axes), found.metadata)


def _write_hspy(file: Path, title: str, micrograph: Micrograph) -> None:
    """Write a micrograph in HyperSpy's own format, always the same bytes.

    HDF5 gives compressed pixels their place in the file when the last reference to their dataset
    goes, and whoever samples stacks (Dask's profiler does) may hold one for a while. They are
    therefore written last and alone, when the rest is in the file.
    """
    import h5py
    from rsciio.hspy import file_writer

    calibrated = micrograph.pixel_size_nm is not None
    acquisition: dict[str, Any] = {}
    for name, (place, factor) in HYPERSPY_TAGS.items():
        if name in micrograph.metadata and place[0] == "Acquisition_instrument":
            branch = acquisition
            for key in place[1:-1]:
                branch = branch.setdefault(key, {})
            value = micrograph.metadata[name]
            branch[place[-1]] = value / factor if factor != 1 else value
    signal = {
        "data": micrograph.image,
        "axes": [
            {
                "_type": "UniformDataAxis",
                "name": name,
                "size": size,
                "scale": micrograph.pixel_size_nm if calibrated else 1.0,
                "offset": 0.0,
                "units": "nm" if calibrated else "",
                "navigate": False,
                "is_binned": False,
            }
            for name, size in zip("yx", micrograph.image.shape, strict=True)
        ],
        "metadata": {
            "General": {"title": title},
            "Signal": {"signal_type": ""},
            "Acquisition_instrument": acquisition,
            "temshift": dict(micrograph.metadata),
        },
        "original_metadata": {},
        "learning_results": {},
        "models": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {},
        "tmp_parameters": {},
    }
    file_writer(str(file), signal, write_dataset=False, mode="a", show_progressbar=False)
    with h5py.File(file, "r+") as written:
        written["Experiments"][title].create_dataset(
            "data",
            data=micrograph.image,
            chunks=True,
            shuffle=True,
            compression="gzip",
            compression_opts=1,
        )
