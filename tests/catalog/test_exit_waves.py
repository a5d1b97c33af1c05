"""Exit waves on disk."""

import numpy as np
import pytest
from kedro.io import DatasetError

from temshift.catalog.exit_waves import ExitWavesDataset
from temshift.microscopy.multislice import ExitWave


def a_wave(rng):
    return ExitWave(
        wave=(rng.random((6, 6)) + 1j * rng.random((6, 6))).astype(np.complex64),
        phase=rng.random((6, 6)).astype(np.float32),
        mask=rng.integers(0, 2, (9, 9)).astype(np.uint8),
        width_A=12.5,
        energy_eV=300e3,
    )


def test_what_is_saved_is_loaded_again(tmp_path, rng):
    dataset = ExitWavesDataset(str(tmp_path / "waves"))
    assert not dataset.exists()
    waves = {"b": a_wave(rng), "a": a_wave(rng)}
    dataset.save(iter(waves.items()))
    assert dataset.exists()
    store = dataset.load()
    assert list(store) == ["a", "b"]
    assert len(store) == 2
    for name, wave in waves.items():
        found = store[name]
        assert np.array_equal(found.wave, wave.wave)
        assert np.array_equal(found.phase, wave.phase)
        assert np.array_equal(found.mask, wave.mask)
        assert (found.width_A, found.energy_eV) == (wave.width_A, wave.energy_eV)
        assert found.wave.dtype == np.complex64


def test_a_broken_simulation_leaves_what_was_there(tmp_path, rng):
    dataset = ExitWavesDataset(str(tmp_path / "waves"))
    dataset.save([("a", a_wave(rng))])

    def breaks():
        yield "b", a_wave(rng)
        raise RuntimeError("out of atoms")

    with pytest.raises(DatasetError, match="out of atoms"):
        dataset.save(breaks())
    assert list(dataset.load()) == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["waves"]


def test_a_missing_and_a_damaged_wave_are_named(tmp_path, rng):
    dataset = ExitWavesDataset(str(tmp_path / "waves"))
    dataset.save([("a", a_wave(rng))])
    store = dataset.load()
    with pytest.raises(KeyError, match="c"):
        store["c"]
    (tmp_path / "waves" / "a.h5").write_bytes(b"not HDF5")
    with pytest.raises(DatasetError, match=r"a\.h5: not an exit wave .* simulation pipeline again"):
        store["a"]
