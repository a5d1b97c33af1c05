"""A few micrographs with masks drawn by hand, paired by their names."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.micrographs import MicrographReadError, MicrographStore
from temshift.catalog.new_micrographs import NewMicrographStore
from temshift.microscopy.micrograph import LabelledMicrograph

__all__ = ["LabelledMicrographsDataset", "LabelledStore"]

_log = logging.getLogger(__name__)

#: What may follow the name of a micrograph in that of its mask.
_ENDINGS = ("", "_mask", "_label", "_labels")


class LabelledStore:
    """Micrographs and their masks; reads a pair when asked for it.

    Parameters
    ----------
    images, masks : Path
        A folder each, or for ``images`` a file.

    Raises
    ------
    ValueError
        No micrograph has a mask; a micrograph has more than one.
    """

    def __init__(self, images: Path, masks: Path) -> None:
        self._images, self._masks = NewMicrographStore(images), MicrographStore(masks)
        self.unlabelled: list[str] = []
        self.pairs = self._paired()

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"LabelledStore: {len(self)} labelled micrographs; .pairs, .read(path, kind)"

    def read(self, path: str, kind: Literal["binary", "instance"] = "binary") -> LabelledMicrograph:
        """Read a micrograph and its mask.

        Raises
        ------
        MicrographReadError
            A file cannot be read, or the mask is of another size than the micrograph.
        """
        mask = self.pairs[path]
        micrograph = self._images.read(path)
        try:
            label = self._masks.read_label(mask, kind)
        except MicrographReadError as error:
            reason = error.reason.replace("curation.label_kind", "fine_tuning.label_kind")
            raise MicrographReadError(error.path, reason) from error
        if label.shape != micrograph.image.shape:
            raise MicrographReadError(
                str(self._masks.folder / mask),
                f"the mask has {label.shape[0]} × {label.shape[1]} px, its micrograph {path} "
                f"{micrograph.image.shape[0]} × {micrograph.image.shape[1]} px; they must be alike",
            )
        known = micrograph.metadata
        return LabelledMicrograph(
            name=path,
            image=micrograph.image,
            label=label,
            pixel_size_nm=micrograph.pixel_size_nm,
            dose_e_per_A2=known.get("dose_e_per_A2"),
            material=known.get("material"),
        )

    def _paired(self) -> dict[str, str]:
        by_name: dict[str, list[str]] = {}
        for path in self._masks.paths():
            by_name.setdefault(_name(path), []).append(path)
        pairs = {}
        for path in self._images.paths():
            name = _name(path)
            own = (self._images.folder / path).resolve()
            found = [
                mask
                for ending in _ENDINGS
                for mask in by_name.get(name + ending, [])
                if (self._masks.folder / mask).resolve() != own
            ]
            if len(found) > 1:
                raise ValueError(
                    f"{self._masks.folder}: the micrograph {path} has {len(found)} masks, "
                    f"{', '.join(found)}; expected one"
                )
            if found:
                pairs[path] = found[0]
            else:
                self.unlabelled.append(path)
        if not pairs:
            names = ", ".join(list(by_name)[:3]) or "no file"
            raise ValueError(
                f"{self._masks.folder}: none of the {len(self.unlabelled)} files in "
                f"{self._images.folder} has a mask here. A mask has the name of its micrograph, "
                f"with any ending, perhaps with _mask or _label before it; found {names}"
            )
        return pairs


def _name(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


class LabelledMicrographsDataset(FileDataset[None, LabelledStore]):
    """A folder of micrographs and one of their masks, to be read only.

    Parameters
    ----------
    filepath : str
        Micrographs: a folder or a file.
    masks : str
        Folder of the masks.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def __init__(self, filepath: str, masks: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath, metadata)
        self._masks = PurePosixPath(masks)

    def load(self) -> LabelledStore:
        """Return the pairs; reads no pixels yet.

        Raises
        ------
        DatasetError
            A folder is missing, or no micrograph has a mask.
        """
        images, masks = Path(self._filepath), Path(self._masks)
        if not images.exists():
            raise DatasetError(
                f"{images}: there is no such file or folder of micrographs. Say where they are: "
                "--params fine_tuning.input=path,fine_tuning.masks=path"
            )
        if not masks.is_dir():
            raise DatasetError(
                f"{masks}: there is no such folder of masks. Say where they are: "
                "--params fine_tuning.input=path,fine_tuning.masks=path"
            )
        try:
            store = LabelledStore(images, masks)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        if store.unlabelled:
            _log.info(
                "%d of %d micrographs have a mask, the others are left out",
                *(len(store), len(store) + len(store.unlabelled)),
            )
        return store

    def save(self, data: None) -> None:
        """Refuse: micrographs and masks are never written.

        Raises
        ------
        DatasetError
            Always.
        """
        raise DatasetError(f"{self._filepath}: labelled micrographs are read, never written")

    def _exists(self) -> bool:
        return Path(self._filepath).exists() and Path(self._masks).is_dir()

    def content_paths(self) -> list[Path]:
        """Return both folders."""
        return [Path(self._filepath), Path(self._masks)]

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "masks": str(self._masks)}
