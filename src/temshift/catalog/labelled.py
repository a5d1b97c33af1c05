"""A few micrographs with masks drawn by hand, paired by their names."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.micrographs import MicrographReadError
from temshift.catalog.new_micrographs import (
    MaskStore,
    NewMicrographStore,
    frame_of,
    names_of_owner,
    owners_of,
)
from temshift.learning.few_labels import usable_for_tuning
from temshift.microscopy.micrograph import LabelledMicrograph

__all__ = ["LabelledMicrographsDataset", "LabelledStore"]

_log = logging.getLogger(__name__)


class LabelledStore:
    """Micrographs and their masks; reads a pair when asked for it.

    Masks are named as those of :class:`temshift.catalog.new_micrographs.MaskStore`. In the folder
    of the micrographs a mask is what has ``_mask`` or the like added to the name of another file.

    Parameters
    ----------
    images, masks : Path
        A folder each, or for ``images`` a file.

    Raises
    ------
    ValueError
        No micrograph has a mask; a micrograph has more than one; micrographs, or the frames of a
        stack, share one.
    """

    def __init__(self, images: Path, masks: Path) -> None:
        self._images, self._masks = NewMicrographStore(images), MaskStore(masks)
        self._single = not images.is_dir()
        self.unlabelled: list[str] = []
        self.pairs = self._paired()

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"LabelledStore: {len(self)} labelled micrographs; .pairs, .read(path, kind)"

    def read(
        self,
        path: str,
        kind: Literal["binary", "instance"] = "binary",
        calibrated: bool = True,
    ) -> LabelledMicrograph:
        """Read a micrograph and its mask; ``calibrated`` as for ``NewMicrographStore.read``.

        Raises
        ------
        MicrographReadError
            A file cannot be read, or the mask is of another size than the micrograph.
        """
        mask = self.pairs[path]
        micrograph = self._images.read(path, calibrated)
        try:
            image = usable_for_tuning(micrograph.image)
        except ValueError as error:
            raise MicrographReadError(str(self._images.folder / path), str(error)) from error
        try:
            label = self._masks.read_label(mask, kind)
        except MicrographReadError as error:
            reason = error.reason.replace("curation.label_kind", "fine_tuning.label_kind")
            raise MicrographReadError(error.path, reason) from error
        if label.shape != image.shape:
            raise MicrographReadError(
                str(self._masks.folder / mask),
                f"the mask has {label.shape[0]} × {label.shape[1]} px, its micrograph {path} "
                f"{image.shape[0]} × {image.shape[1]} px; they must be alike",
            )
        known = micrograph.metadata
        return LabelledMicrograph(
            name=path,
            image=image,
            label=label,
            pixel_size_nm=micrograph.pixel_size_nm,
            dose_e_per_A2=known.get("dose_e_per_A2"),
            material=known.get("material"),
        )

    def _paired(self) -> dict[str, str]:
        micrographs, masks = self._told_apart()
        owners = owners_of(masks, micrographs)
        lost = [mask for mask, own in owners.items() if not own]
        self._refuse_shared(owners)
        self._refuse_for_stacks(lost, micrographs)
        found: dict[str, list[str]] = {}
        for mask, own in owners.items():
            for path in own:
                found.setdefault(path, []).append(mask)
        for path, several in found.items():
            if len(several) > 1:
                raise ValueError(
                    f"{self._masks.folder}: the micrograph {path} has {len(several)} masks, "
                    f"{', '.join(several)}; expected one. Move the others elsewhere"
                )
        self.unlabelled = [path for path in micrographs if path not in found]
        if not found:
            raise ValueError(
                f"{self._masks.folder}: none of the {len(micrographs)} files in "
                f"{self._images.folder} has a mask here, found "
                f"{', '.join(masks[:3]) or 'no mask'}. Name the mask of a.dm3 a.png, a_mask.png or "
                "a_cp_masks.png, with any ending; in the folder of the micrographs something like "
                "_mask must be added"
            )
        if not self._single:
            self._masks.tell_lost(lost, len(masks))
        return {path: found[path][0] for path in micrographs if path in found}

    def _told_apart(self) -> tuple[list[str], list[str]]:
        """Return the micrographs and the masks; no file is both."""
        micrographs, masks = self._images.paths(), self._masks.paths()
        places = {path: self._images.file(path).resolve() for path in micrographs}
        shared = set(places.values())
        if self._images.folder.resolve() == self._masks.folder.resolve():
            known = {name for path in micrographs for name in _names(path)}
            masks = [
                mask
                for mask in masks
                if self._masks.file(mask).resolve() not in shared or _added_to(mask, known)
            ]
        taken = {self._masks.file(mask).resolve() for mask in masks}
        return [path for path, place in places.items() if place not in taken], masks

    def _refuse_shared(self, owners: Mapping[str, Sequence[str]]) -> None:
        """Refuse a mask of several micrographs, which would count as independent ones."""
        for mask, own in owners.items():
            if len(own) > 1:
                raise ValueError(
                    f"{self._masks.folder / mask}: it is the mask of {len(own)} micrographs, "
                    f"{' and '.join(own)}; expected one, since each counts as independent of the "
                    "others. Move copies of a micrograph elsewhere, or put its own ending into "
                    f"the name of each mask ({own[0]}.png)"
                )

    def _refuse_for_stacks(self, lost: Sequence[str], micrographs: Sequence[str]) -> None:
        """Refuse a single mask that is named like a stack."""
        frames: dict[str, list[str]] = {}
        for path in micrographs:
            file, number = frame_of(path)
            for stack in {file, _names(path)[1]} if number else ():
                frames.setdefault(stack, []).append(path)
        for mask in lost:
            for stack in names_of_owner(mask):
                if stack in frames:
                    first, *_ = own = frames[stack]
                    raise ValueError(
                        f"{self._masks.folder / mask}: it is one mask, but the micrographs of this "
                        f"name are {len(own)} frames of a stack ({first} …), which need one each. "
                        f"Save their masks as a stack of {len(own)} frames, or the frame that was "
                        "labelled as a file of its own"
                    )


def _names(path: str) -> tuple[str, str]:
    """Return the name of a micrograph without its ending, and without the number of its frame."""
    name = names_of_owner(path)[0]
    return name, frame_of(name)[0]


def _added_to(mask: str, known: Collection[str]) -> bool:
    """Whether something like ``_mask`` is added to one of the names."""
    name, plain = names_of_owner(mask)
    return name != plain and plain in known


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
