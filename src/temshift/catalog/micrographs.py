"""Micrographs and their masks as files: reading any format of the field, writing ``.hspy``.

Microscope formats are read through RosettaSciIO, pictures (PNG, JPEG, BMP) through Pillow. A
file that cannot be read as *one image of the specimen with square pixels* is refused with its
name and the reason, never with a bare exception of a reader.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray

from temshift.catalog.digital_micrograph import find_image
from temshift.catalog.files import atomic_path
from temshift.microscopy.micrograph import Micrograph

__all__ = [
    "MicrographHeader",
    "MicrographReadError",
    "MicrographStore",
    "MicrographsDataset",
    "label_path_beside",
]

_log = logging.getLogger(__name__)

Saved = tuple[str, Micrograph, NDArray[np.uint8] | None]

#: Files that are pictures, without a calibration of the specimen.
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")

#: Readers of RosettaSciIO for the formats of micrographs; others are found by their extension.
READERS = {
    ".dm3": "rsciio.digitalmicrograph",
    ".dm4": "rsciio.digitalmicrograph",
    ".emd": "rsciio.emd",
    ".hdf5": "rsciio.hspy",
    ".hspy": "rsciio.hspy",
    ".mrc": "rsciio.mrc",
    ".ser": "rsciio.tia",
    ".tif": "rsciio.tiff",
    ".tiff": "rsciio.tiff",
}

#: Units of length and how many nm they are.
NM_PER_UNIT = {
    "pm": 1e-3,
    "å": 0.1,
    "a": 0.1,
    "angstrom": 0.1,
    "ångström": 0.1,
    "nm": 1.0,
    "um": 1e3,
    "µm": 1e3,  # micro sign
    "μm": 1e3,  # Greek mu
    "micron": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
}

#: What readers give as unit where the image is not calibrated.
NO_UNIT = ("", "none", "<undefined>", "px", "pixel", "pixels")

#: Pixel sizes outside of this range (nm) are no calibration of a TEM image.
PLAUSIBLE_NM = (1e-4, 1e3)

#: Relative difference of the two sides of a pixel up to which it is square.
SQUARE = 1e-3

#: No camera has more pixels: a larger image is a damaged header.
MAX_PX = 2**30

#: Weights of red, green and blue in the luminance (ITU-R BT.709, as in scikit-image).
LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)

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
_HYPERSPY_TAGS: dict[str, tuple[tuple[str, ...], float]] = {
    "energy_eV": (("Acquisition_instrument", "TEM", "beam_energy"), 1e3),
    "exposure_s": (("Acquisition_instrument", "TEM", "Camera", "exposure"), 1.0),
    "magnification": (("Acquisition_instrument", "TEM", "magnification"), 1.0),
    "camera": (("Acquisition_instrument", "TEM", "Camera", "name"), 1.0),
    "instrument": (("Acquisition_instrument", "TEM", "microscope"), 1.0),
    "date": (("General", "date"), 1.0),
}


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

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        n = len(self.paths())
        return (
            f"MicrographStore('{self.folder}'): {n} files; .paths() lists them, .read(path) gives "
            ".image and .pixel_size_nm, .signal(path) a HyperSpy signal to plot"
        )

    def paths(self) -> list[str]:
        """Return all files below the folder, in order, as paths relative to it."""
        return sorted(
            p.relative_to(self.folder).as_posix()
            for p in self.folder.rglob("*")
            if p.is_file() and not p.name.startswith(".")
        )

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        return bool(path) and (self.folder / path).is_file()

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of a file, 64 hexadecimal digits."""
        with self._file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

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
        found = self._open(path, lazy=False)
        return Micrograph(
            image=_grey(_in_memory(found.data)),
            pixel_size_nm=found.pixel_size_nm,
            pixel_size_source="unknown" if found.pixel_size_nm is None else "header",
            metadata=found.metadata,
        )

    def read_header(self, path: str) -> MicrographHeader:
        """Read what a file says about its micrograph, without the pixels.

        Raises
        ------
        MicrographReadError
            As :meth:`read`.
        """
        found = self._open(path, lazy=True)
        height, width = found.data.shape[:2]
        return MicrographHeader((height, width), found.pixel_size_nm, found.metadata)

    def read_label(
        self, path: str, kind: Literal["binary", "instance"] = "binary"
    ) -> NDArray[np.uint8]:
        """Read a mask.

        Parameters
        ----------
        path : str
        kind : {"binary", "instance"}
            ``binary``: {0, 1} or {0, 255}; ``instance``: 0 is background, any other value a
            particle.

        Returns
        -------
        ndarray, shape (H, W), uint8
            1 where a particle is.

        Raises
        ------
        MicrographReadError
            The file is missing or damaged, coloured, or holds other values.
        """
        label = _in_memory(self._open(path, lazy=False, as_label=kind).data)
        if label.dtype.names or label.ndim == 3:
            channels = _channels(label)
            label = channels[..., 0]
            if not (channels == label[..., None]).all():
                raise MicrographReadError(
                    self._name(path), "a mask must be grey (or numbers), this one is in colour"
                )
        if kind == "instance":
            if label.dtype.kind == "f" and not np.isfinite(label).all():
                raise MicrographReadError(self._name(path), "the mask holds values that are NaN")
            return (label != 0).astype(np.uint8)
        # 256 values at most: counting them is much faster than sorting a whole mask
        values = (
            np.flatnonzero(np.bincount(label.ravel(), minlength=256))
            if label.dtype == np.uint8
            else np.unique(label)
        )
        if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
            shown = ", ".join(f"{v:g}" for v in values[:6]) + (" …" if len(values) > 6 else "")
            raise MicrographReadError(
                self._name(path),
                f"a mask must hold {{0, 1}} or {{0, 255}} only, found {len(values)} values: "
                f"{shown}. If they number the particles, set curation.label_kind: instance",
            )
        return (label != 0).astype(np.uint8)

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
        if not file.exists():
            raise MicrographReadError(str(file), "there is no such file")
        if not file.is_file():
            raise MicrographReadError(str(file), "this is a folder, not a file")
        if file.stat().st_size == 0:
            raise MicrographReadError(str(file), "the file is empty")
        return file

    def _open(self, path: str, lazy: bool, as_label: str | None = None) -> _Found:
        """Read a file; every error that a reader raises becomes a :class:`MicrographReadError`."""
        file = self._file(path)
        try:
            if file.suffix.lower() in PICTURES:
                return _open_picture(file, lazy, keep_palette=as_label == "instance")
            return _open_signal(file, lazy, calibrated=as_label is None)
        except _RefusedError as refused:
            raise MicrographReadError(str(file), str(refused)) from refused
        except Exception as error:
            raise MicrographReadError(
                str(file),
                f"it is damaged or in a form that cannot be read ({type(error).__name__}: {error})",
            ) from error


class MicrographsDataset(AbstractDataset[Iterable[Saved], MicrographStore]):
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

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

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
        from tqdm.auto import tqdm

        total = len(data) if isinstance(data, Sized) else None
        for path, micrograph, label in tqdm(data, total=total, desc="micrographs", unit="file"):
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
        """Return the first micrograph as a small PNG, for Kedro-Viz."""
        from temshift.catalog.previews import image_preview
        from temshift.microscopy.pictures import stretch

        store = self.load()
        for path in store.paths():
            try:
                image = store.read(path).image
            except MicrographReadError:
                continue
            step = -(-max(image.shape) // 512)
            return image_preview(stretch(image[::step, ::step]))
        raise DatasetError(f"{self._filepath}: no micrograph in this folder")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir() and any(Path(self._filepath).iterdir())

    def content_paths(self) -> list[Path]:
        """Return the folder."""
        return [Path(self._filepath)]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


# Kedro-Viz takes the kind of the preview from this annotation, which must be no string
MicrographsDataset.preview.__annotations__["return"] = ImagePreview


class _RefusedError(ValueError):
    """A reason that is a message already."""


@dataclass(frozen=True)
class _Found:
    """What a reader found: pixels (an array, perhaps lazy), calibration, acquisition."""

    data: Any
    pixel_size_nm: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def _open_picture(file: Path, lazy: bool, keep_palette: bool) -> _Found:
    """Open a picture; the colours of a palette are looked up unless its numbers are wanted."""
    from PIL import Image

    with Image.open(file) as picture:
        _check_size((picture.height, picture.width))
        if (frames := getattr(picture, "n_frames", 1)) > 1:
            raise _RefusedError(f"it holds {frames} pictures, not one")
        if lazy:
            return _Found(np.broadcast_to(np.uint8(0), (picture.height, picture.width)))
        palette = picture.mode == "P" and not keep_palette
        in_colour = palette or picture.mode in ("CMYK", "YCbCr", "LAB", "HSV")
        data = np.asarray(picture.convert("RGB") if in_colour else picture)
    return _Found(data[..., 0] if data.ndim == 3 and data.shape[2] == 2 else data)  # grey + alpha


def _open_signal(file: Path, lazy: bool, calibrated: bool) -> _Found:
    """Open a file of a microscope through RosettaSciIO."""
    suffix = file.suffix.lower()
    reader = importlib.import_module(_reader(suffix))
    if suffix in (".dm3", ".dm4"):
        try:
            position = find_image(file)
        except ValueError as error:
            raise _RefusedError(str(error)) from error
        signal = reader.file_reader(str(file), lazy=lazy)[position]
    else:
        # the shape is looked at first: a damaged header may claim any
        signal = _only_image(reader.file_reader(str(file), lazy=True))
        _close(signal)
        if not lazy:
            signal = _only_image(reader.file_reader(str(file), lazy=False))
    data, axes = signal["data"], signal["axes"]
    keep = [i for i, n in enumerate(data.shape) if n > 1] if data.ndim > 2 else [0, 1]
    data = data.reshape([data.shape[i] for i in keep])
    if np.dtype(data.dtype).kind == "c":
        raise _RefusedError("it holds complex numbers (a Fourier transform), no micrograph")
    _check_size(data.shape)
    unit = _imagej_unit(signal)
    kept = [{**axes[i], "units": axes[i].get("units") or unit} for i in keep]
    pixel_size_nm = _pixel_size_nm(kept) if calibrated else None
    return _Found(data, pixel_size_nm, _metadata(signal))


def _reader(suffix: str) -> str:
    """Return the module of RosettaSciIO that reads files with an extension."""
    if suffix in READERS:
        return READERS[suffix]
    from rsciio import IO_PLUGINS

    for plugin in IO_PLUGINS:
        if suffix[1:] in plugin["file_extensions"] and suffix:
            return str(plugin["api"])
    known = ", ".join(sorted((*READERS, *PICTURES)))
    raise _RefusedError(f"files that end in {suffix!r} cannot be read; formats such as {known} can")


def _only_image(signals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the one two-dimensional signal of a file."""

    def sides(signal: dict[str, Any]) -> int:
        shape = signal["data"].shape
        return sum(n > 1 for n in shape) if len(shape) > 2 else len(shape)

    images = [signal for signal in signals if sides(signal) == 2]
    if len(images) == 1:
        return images[0]
    for signal in signals:
        _close(signal)
    shapes = " and ".join(" × ".join(map(str, s["data"].shape)) for s in signals) or "nothing"
    if images:
        raise _RefusedError(f"it holds {len(images)} images ({shapes}): save each in its own file")
    raise _RefusedError(f"it holds {shapes}: a stack, a line or a spectrum image, not one image")


def _close(signal: dict[str, Any]) -> None:
    """Close the file that a lazy signal keeps open."""
    from rsciio.utils.file import get_file_handle

    handle = get_file_handle(signal["data"], warn=False)
    if handle is not None and hasattr(handle, "close"):
        handle.close()


def _check_size(shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise _RefusedError(f"it is no two-dimensional image: its shape is {tuple(shape)}")
    if 0 in shape or shape[0] * shape[1] > MAX_PX:
        raise _RefusedError(f"its header claims {shape[0]} × {shape[1]} px: it is damaged")


def _in_memory(data: Any) -> NDArray[Any]:
    """Return pixels as a contiguous array in the byte order of this machine."""
    array = np.asarray(data)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _channels(image: NDArray[Any]) -> NDArray[Any]:
    """Return red, green and blue of a colour image as ``(H, W, 3)``."""
    if image.dtype.names:
        return np.stack([image[c] for c in ("R", "G", "B")], axis=-1)
    return image[..., :3]


def _grey(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image as one grey channel; colours become their luminance, alpha is left out."""
    if image.dtype.names or image.ndim == 3:
        grey: NDArray[Any] = _channels(image).astype(np.float32) @ LUMINANCE
        return grey
    return image


def _pixel_size_nm(axes: Sequence[dict[str, Any]]) -> float | None:
    """Return the side of a pixel, or ``None`` if the axes are not calibrated.

    Raises
    ------
    _RefusedError
        Units that are no lengths, pixels that are not square, sizes that cannot be.
    """
    units = [_plain_unit(axis.get("units")) for axis in axes]
    if all(unit in NO_UNIT for unit in units):
        return None
    sizes = []
    for axis, unit in zip(axes, units, strict=True):
        if "/" in unit or "^-1" in unit or "⁻" in unit or unit.endswith("rad"):
            raise _RefusedError(
                f"its pixels are calibrated in {axis['units']!r}: it is a diffraction pattern or "
                "a Fourier transform, not an image of the specimen"
            )
        if unit not in NM_PER_UNIT:
            raise _RefusedError(
                f"its pixels are calibrated in {axis['units']!r}, which is no length"
            )
        sizes.append(abs(float(axis["scale"])) * NM_PER_UNIT[unit])
    low, high = PLAUSIBLE_NM
    if not all(low <= size <= high for size in sizes):  # also False for NaN
        raise _RefusedError(
            f"its header gives a pixel of {sizes[0]:.6g} × {sizes[1]:.6g} nm, which is outside of "
            f"{low:g} … {high:g} nm: the calibration is damaged or wrong"
        )
    if abs(sizes[0] - sizes[1]) > SQUARE * max(sizes):
        raise _RefusedError(
            f"its pixels are not square: {sizes[0]:.6g} × {sizes[1]:.6g} nm by its header"
        )
    return sizes[0]


def _imagej_unit(signal: dict[str, Any]) -> str:
    """Return the unit that ImageJ writes into a TIFF; RosettaSciIO knows only ``micron``."""
    text = str(_get(signal.get("original_metadata", {}), "ImageDescription") or "")
    unit = re.search(r"^unit=(.+)$", text, re.MULTILINE) if text.startswith("ImageJ") else None
    return unit[1].strip().replace(r"\u00B5", "µ") if unit else ""


def _plain_unit(unit: Any) -> str:
    return str(unit if unit is not None else "").strip().lower().replace(" ", "")


def _metadata(signal: dict[str, Any]) -> dict[str, Any]:
    """Return what a header says about the acquisition, under the names of the data contract."""
    metadata = signal.get("metadata", {})
    tags = _get(signal.get("original_metadata", {}), "ImageList", "TagGroup0", "ImageTags") or {}
    found: dict[str, Any] = {}
    for name, places in _DM_TAGS.items():
        values = [v for place in places if (v := _get(tags, *place)) not in (None, "", [])]
        if values:
            found[name] = values[0]
    for name, (place, factor) in _HYPERSPY_TAGS.items():
        value = _get(metadata, *place)
        if name not in found and value not in (None, ""):
            found[name] = value * factor if factor != 1 else value
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


def _write_hspy(file: Path, title: str, micrograph: Micrograph) -> None:
    """Write a micrograph in HyperSpy's own format."""
    from rsciio.hspy import file_writer

    calibrated = micrograph.pixel_size_nm is not None
    acquisition: dict[str, Any] = {}
    for name, (place, factor) in _HYPERSPY_TAGS.items():
        if name in micrograph.metadata and place[0] == "Acquisition_instrument":
            branch = acquisition
            for key in place[1:-1]:
                branch = branch.setdefault(key, {})
            value = micrograph.metadata[name]
            branch[place[-1]] = value / factor if factor != 1 else value
    signal = {
        "data": np.ascontiguousarray(micrograph.image),
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
    file_writer(str(file), signal, compression_opts=1, show_progressbar=False)
