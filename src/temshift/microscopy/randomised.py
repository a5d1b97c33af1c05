"""Specimens and conditions drawn at random, for a network that is to know many of them.

The exit wave of a specimen costs seconds, an image of it a fraction of one: every specimen is
simulated once and imaged under several conditions, each with a microscope and a camera of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.box import RandomExposures, RandomFields
from temshift.config.preprocessing import FlatField, PreprocessingParameters, XrayRemoval
from temshift.config.simulation import ImagingParameters, SpecimenParameters, SupportParameters
from temshift.microscopy.acquisitions import expose, stable_seed
from temshift.microscopy.imaging import pixel_grid
from temshift.microscopy.multislice import ExitWave, exit_wave
from temshift.microscopy.patches import PatchStack, PatchStream
from temshift.microscopy.preprocess import preprocess_micrograph
from temshift.microscopy.specimens import MARGIN_A, Specimen, amorphous_film, build_specimen
from temshift.parallel import available_cores, map_ordered

__all__ = [
    "PREPROCESSING",
    "Condition",
    "RandomField",
    "burn_in_bar",
    "draw_condition",
    "draw_field",
    "random_patches",
    "simulate_field",
    "simulate_fields",
    "take",
]

#: Of one frozen configuration, and slices of the calculation, Å.
_THERMAL_A, _SLICE_A, _FILM_SLICE_A = 0.085, 4.0, 12.0

#: Relative number of atoms, and atoms in Å³.
_FILMS = {"carbon": ({"C": 1.0}, 0.1), "SiN": ({"Si": 3.0, "N": 4.0}, 0.093)}

#: How images are prepared for the training: uneven as they are.
PREPROCESSING = PreprocessingParameters(
    flat_field=FlatField(mode="none"), xray=XrayRemoval(passes=0), patch_px=384
)


@dataclass(frozen=True)
class RandomField:
    """One specimen.

    Attributes
    ----------
    name : str
    specimen : SpecimenParameters or None
        ``None`` is a bare film.
    support : SupportParameters
    width_nm : float
    grid_px : int
        Points of the calculation in each direction.
    seed : int
        Of its atoms.
    """

    name: str
    specimen: SpecimenParameters | None
    support: SupportParameters
    width_nm: float
    grid_px: int
    seed: int


@dataclass(frozen=True)
class Condition:
    """How a specimen is imaged, and what becomes of the image.

    Attributes
    ----------
    pixel_size_nm, dose_e_per_A2, defocus_A, unevenness : float
    imaging : ImagingParameters
    bar : bool
        A scale bar is burnt in.
    blur_px : float
        Standard deviation of a smoothing before the image is saved with 8 bits; 0 keeps the counts.
    seed : int
    """

    pixel_size_nm: float
    dose_e_per_A2: float
    defocus_A: float
    unevenness: float
    imaging: ImagingParameters
    bar: bool
    blur_px: float
    seed: int


def draw_field(parameters: RandomFields, number: int) -> RandomField:
    """Draw one specimen; it depends on the seed and its number only."""
    from scipy.fft import next_fast_len

    name = f"field_{number:03d}"
    seed = stable_seed(parameters.seed, name)
    rng = np.random.default_rng(seed)
    diameter_nm = _log_uniform(rng, parameters.diameter_nm)
    width_nm = max(parameters.least_width_nm, parameters.widths_of_diameter * diameter_nm)
    material = parameters.materials[rng.integers(len(parameters.materials))]
    kind = "SiN" if rng.random() < parameters.sin else "carbon"
    composition, density = _FILMS[kind]
    thickness_nm = float(rng.uniform(*parameters.thickness_nm))
    support = SupportParameters(
        composition=composition,
        atoms_per_A3=density,
        thickness_nm=(thickness_nm, thickness_nm),
        roughness_nm=float(rng.uniform(0.2, 1.2)),
        roughness_length_nm=float(rng.uniform(1.5, 4.0)),
    )
    aspect = float(rng.choice([1.0, rng.uniform(1.0, 1.8)], p=[0.6, 0.4]))
    area = np.pi / 4 * diameter_nm**2 * aspect
    covered = rng.uniform(*parameters.coverage) * width_nm**2
    count = int(np.clip(round(covered / area), 1, 40))
    specimen = SpecimenParameters(
        material=material,
        diameter_nm=diameter_nm,
        diameter_spread_nm=float(rng.uniform(*parameters.diameter_spread)) * diameter_nm,
        aspect_ratio=aspect,
        height_ratio=float(rng.uniform(0.5, 1.0)),
        support=kind,
        particles=(count, count),
        touching=float(rng.uniform(0.0, 0.4)),
        twinned=0.0 if material == "CdSe" else float(rng.uniform(0.0, 0.6)),
        faceted=float(rng.uniform(0.0, 1.0)),
    )
    grid_px = 2 * next_fast_len(round(width_nm / parameters.point_nm / 2))
    bare = rng.random() < parameters.empty
    return RandomField(name, None if bare else specimen, support, width_nm, grid_px, seed)


def simulate_field(field: RandomField) -> ExitWave:
    """Build a specimen and compute its exit wave; particles that do not fit are left out."""
    return exit_wave(
        _atoms(field),
        energy_eV=300e3,
        grid_px=field.grid_px,
        slice_thickness_A=_SLICE_A,
        film_slice_thickness_A=_FILM_SLICE_A,
    )


def simulate_fields(parameters: RandomFields) -> Iterator[tuple[str, ExitWave]]:
    """Simulate all specimens, one on each core.

    Yields
    ------
    name : str
    exit_wave : ExitWave
    """
    fields = [draw_field(parameters, number) for number in range(parameters.count)]
    waves = map_ordered(simulate_field, fields, available_cores(), "specimens of the box")
    yield from zip((field.name for field in fields), waves, strict=True)


def _atoms(field: RandomField) -> Specimen:
    if field.specimen is None:
        rng = np.random.default_rng(field.seed)
        numbers, positions = amorphous_film(
            10 * field.width_nm,
            10 * field.support.thickness_nm[0],
            field.support.composition,
            field.support.atoms_per_A3,
            rng,
            roughness_A=10 * field.support.roughness_nm,
            roughness_length_A=10 * field.support.roughness_length_nm,
        )
        positions[:, 2] += MARGIN_A
        return Specimen(
            numbers=numbers,
            positions_A=positions,
            in_particle=np.zeros(len(numbers), bool),
            width_A=10 * field.width_nm,
            height_A=float(positions[:, 2].max() + MARGIN_A),
            particles=(),
        )
    count = field.specimen.particles[0]
    while True:
        try:
            return build_specimen(
                field.specimen.model_copy(update={"particles": (count, count)}),
                field.support,
                thermal_displacement_A=_THERMAL_A,
                width_A=10 * field.width_nm,
                seed=field.seed,
            )
        except ValueError:
            if count == 1:
                raise
            count = max(1, int(0.75 * count))


def draw_condition(parameters: RandomExposures, seed: int, field: str, number: int) -> Condition:
    """Draw one of the conditions under which a field is imaged."""
    own = stable_seed(seed, field, f"exposure {number}")
    rng = np.random.default_rng(own)
    pixel_size_nm = _log_uniform(rng, parameters.pixel_size_nm)
    dose_e_per_A2 = _log_uniform(rng, parameters.dose_e_per_A2)
    if rng.random() < parameters.uncorrected:
        Cs_A, defocus_A = float(rng.uniform(0.5e7, 1.2e7)), float(rng.uniform(400.0, 1200.0))
    else:
        Cs_A, defocus_A = float(rng.uniform(-1e5, 1e5)), float(rng.uniform(*parameters.defocus_A))
    mtf_width = float(rng.uniform(0.2, 0.6))
    imaging = ImagingParameters(
        Cs_A=Cs_A,
        focal_spread_A=float(rng.uniform(8.0, 40.0)),
        vibration_A=float(rng.uniform(0.1, 0.5)),
        absorption=float(rng.uniform(0.02, 0.09)),
        contrast_factor=float(rng.uniform(1.0, 2.2)),
        mtf="lorentzian" if rng.random() < 0.75 else "exponential",
        mtf_width=mtf_width,
        ntf_width=mtf_width * float(rng.uniform(1.0, 1.6)),
        counts_per_electron=_log_uniform(rng, (2.0, 40.0)),
        offset_counts=float(rng.uniform(0.0, 50.0)),
        readout_noise_counts=float(rng.uniform(0.0, 3.0)),
        xray_per_Mpx=0.05,
    )
    if rng.random() < parameters.opaque:
        dose_e_per_A2 *= 10
        imaging = imaging.model_copy(
            update={
                "absorption": _log_uniform(rng, (0.1, 1.0)),
                "vibration_A": float(rng.uniform(1.0, 4.0)),
                "counts_per_electron": 2.0,
            }
        )
    return Condition(
        pixel_size_nm=pixel_size_nm,
        dose_e_per_A2=dose_e_per_A2,
        defocus_A=defocus_A,
        unevenness=float(rng.uniform(*parameters.unevenness)),
        imaging=imaging,
        bar=bool(rng.random() < parameters.bars),
        blur_px=float(rng.uniform(0.4, 2.5)) if rng.random() < parameters.pictures else 0.0,
        seed=own,
    )


def take(
    wave: ExitWave, condition: Condition
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], float]:
    """Take one micrograph.

    Returns
    -------
    image : ndarray, shape (H, W), uint16
        Counts, or grey values of 8 bits.
    label : ndarray, shape (H, W), uint8
        1 where a particle is; 0 under a scale bar.
    pixel_size_nm : float
    """
    from scipy.ndimage import gaussian_filter

    row: dict[str, Any] = {
        "exposure_seed": condition.seed,
        "pixel_size_nm": condition.pixel_size_nm,
        "dose_e_per_A2": condition.dose_e_per_A2,
        "defocus_A": condition.defocus_A,
        "unevenness": condition.unevenness,
        **dict.fromkeys(("instrument", "session", "specimen_id", "material", "support"), ""),
    }
    micrograph, label = expose(wave, row, condition.imaging)
    image, pixel_size_nm = micrograph.image, micrograph.pixel_size_nm
    assert pixel_size_nm is not None
    if condition.blur_px:
        smooth = gaussian_filter(image.astype(np.float32), condition.blur_px, mode="wrap")
        low, high = np.percentile(smooth, (0.5, 99.5))
        grey = np.clip((smooth - low) / max(float(high - low), 1e-6), 0, 1)
        image = np.rint(255 * grey).astype(np.uint16)
    if condition.bar:
        image, label = burn_in_bar(image, label, pixel_size_nm, condition.seed)
    return image, label, pixel_size_nm


def random_patches(
    waves: Mapping[str, ExitWave],
    exposures: RandomExposures,
    seed: int,
    folds: int,
    patch_px: int,
) -> PatchStream:
    """Return patches of all fields under conditions drawn at random.

    A patch is the part of a micrograph that is kept, and stands for one: where a micrograph is
    larger, up to ``exposures.patches`` parts of it are taken, at random. The folds take turns with
    the fields.

    Parameters
    ----------
    waves : mapping of str to ExitWave
    exposures : RandomExposures
    seed : int
        Of the conditions.
    folds : int
    patch_px : int

    Raises
    ------
    ValueError
        A micrograph is smaller than a patch.
    """
    names = list(waves)
    conditions = [
        (number % folds, name, draw_condition(exposures, seed, name, i))
        for number, name in enumerate(names)
        for i in range(exposures.per_field)
    ]
    widths_A = {name: waves[name].width_A for name in names}
    counts = [
        _patches_of(pixel_grid(widths_A[name], condition.pixel_size_nm)[0], exposures, patch_px)
        for _, name, condition in conditions
    ]

    def parts() -> Iterator[PatchStack]:
        def cut(job: tuple[tuple[int, str, Condition], int]) -> PatchStack:
            (fold, name, condition), count = job
            return _cut(waves[name], fold, name, condition, count, patch_px)

        jobs = list(zip(conditions, counts, strict=True))
        yield from map_ordered(cut, jobs, available_cores(), "micrographs of the box")

    attributes = {"split": "box", "preprocessing": PREPROCESSING.model_dump(mode="json")}
    return PatchStream(parts(), sum(counts), patch_px, attributes)


def _patches_of(shape_px: int, exposures: RandomExposures, patch_px: int) -> int:
    if shape_px < patch_px:
        raise ValueError(
            f"a field has {shape_px} px, less than a patch of {patch_px} px: raise "
            "box.fields.least_width_nm, or lower box.patch_px or the largest pixel size"
        )
    return int(np.clip(round((shape_px / patch_px) ** 2 / 2), 1, exposures.patches))


def _cut(
    wave: ExitWave, fold: int, name: str, condition: Condition, count: int, patch_px: int
) -> PatchStack:
    counts, label, pixel_size_nm = take(wave, condition)
    image, _ = preprocess_micrograph(counts, PREPROCESSING, pixel_size_nm)
    corners = np.random.default_rng([condition.seed, 2]).integers(
        0, image.shape[0] - patch_px + 1, size=(count, 2)
    )
    places = [(slice(r, r + patch_px), slice(c, c + patch_px)) for r, c in corners]
    images, labels = np.stack([image[p] for p in places]), np.stack([label[p] for p in places])
    table = pd.DataFrame(
        {
            "micrograph_id": [f"{name}/{condition.seed}_{i}" for i in range(count)],
            "specimen_id": name,
            "group": name,
            "row": 0,
            "column": 0,
            "labelled_px": labels.sum(axis=(1, 2), dtype=np.int64),
            "fold": fold,
        }
    )
    return PatchStack(images, labels, table)


def burn_in_bar(
    image: NDArray[np.uint16], label: NDArray[np.uint8], pixel_size_nm: float, seed: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Burn a scale bar with its length into an image, white or black, often a letter too.

    Returns
    -------
    image : ndarray, shape (H, W), uint16
    label : ndarray, shape (H, W), uint8
        0 under the bar, its text and the box behind them.
    """
    from PIL import Image, ImageDraw, ImageFont

    from temshift.microscopy.scale_bars import round_length

    rng = np.random.default_rng([seed, 1])
    height, width = image.shape
    length_nm = round_length(float(rng.uniform(0.12, 0.35)) * width * pixel_size_nm)
    bar_px, size = round(length_nm / pixel_size_nm), max(10, round(width * rng.uniform(0.02, 0.05)))
    drawn = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(size)
    text = f"{length_nm:g} nm"
    wide = max(bar_px, round(draw.textlength(text, font=font)))
    left = size if rng.random() < 0.5 else max(size, width - size - wide)
    bottom = height - size if rng.random() < 0.75 else 3 * size
    thick = max(2, round(size * rng.uniform(0.15, 0.5)))
    draw.rectangle((left, bottom - thick, left + bar_px, bottom), fill=255)
    draw.text((left, bottom - thick - 1.4 * size), text, font=font, fill=255)
    if rng.random() < 0.5:
        letter = "abcdef"[rng.integers(6)]
        large = ImageFont.load_default(2 * size)
        draw.text((size // 2, 0), rng.choice([letter, f"({letter})"]), font=large, fill=255)
    ink = np.asarray(drawn) > 127
    low, high = np.percentile(image, (0.2, 99.8)).astype(image.dtype)
    white = rng.random() < 0.6
    image, label = image.copy(), label.copy()
    if rng.random() < 0.4:  # a box behind it
        rows = slice(max(0, bottom - thick - 2 * size), bottom + size // 2)
        columns = slice(max(0, left - size // 2), left + wide + size // 2)
        image[rows, columns] = low if white else high
        label[rows, columns] = 0
    image[ink] = high if white else low
    label[ink] = 0
    return image, label


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
