"""Exit waves on disk: a folder, one HDF5 file a specimen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_folder
from temshift.microscopy.multislice import ExitWave

__all__ = ["ExitWaveStore", "ExitWavesDataset"]


class ExitWaveStore(Mapping[str, ExitWave]):
    """Exit waves by ``specimen_id``, each read when it is asked for.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def __getitem__(self, specimen_id: str) -> ExitWave:
        import h5py

        path = self.folder / f"{specimen_id}.h5"
        if not path.is_file():
            raise KeyError(specimen_id)
        try:
            with h5py.File(path) as file:
                return ExitWave(
                    wave=file["wave"][:],
                    phase=file["phase"][:],
                    mask=file["mask"][:],
                    width_A=float(file.attrs["width_A"]),
                    energy_eV=float(file.attrs["energy_eV"]),
                )
        except (OSError, KeyError) as error:
            raise DatasetError(
                f"{path}: not an exit wave ({error}). Run the simulation pipeline again"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self.folder.glob("*.h5")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        first = next(iter(self), "name")
        return f"ExitWaveStore('{self.folder}'): {len(self)} specimens; store['{first}'] reads one"


class ExitWavesDataset(FileDataset[Iterable[tuple[str, ExitWave]], ExitWaveStore]):
    """The exit waves of one specimen type.

    ``save`` takes an iterable of ``(specimen_id, ExitWave)`` and writes one file at a time; the
    folder appears when all are written. ``load`` returns an :class:`ExitWaveStore`.

    Parameters
    ----------
    filepath : str
        The folder.
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def load(self) -> ExitWaveStore:
        """Return the lazy store."""
        return ExitWaveStore(Path(self._filepath))

    def save(self, data: Iterable[tuple[str, ExitWave]]) -> None:
        """Write all waves; an earlier folder is replaced when the last one is there."""
        import h5py

        with atomic_folder(Path(self._filepath)) as folder:
            for specimen_id, exit_wave in data:
                with h5py.File(folder / f"{specimen_id}.h5", "w") as file:
                    file["wave"] = exit_wave.wave
                    file["phase"] = exit_wave.phase
                    file.create_dataset("mask", data=exit_wave.mask, compression="gzip")
                    file.attrs["width_A"] = exit_wave.width_A
                    file.attrs["energy_eV"] = exit_wave.energy_eV

    def _exists(self) -> bool:
        return any(Path(self._filepath).glob("*.h5"))
