"""The network that comes with the package: its training, its trust, and how small it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.box import BoxParameters, RandomExposures, RandomFields
from temshift.config.modelling import Architecture, Augmentation, ModellingParameters, Training
from temshift.config.preprocessing import FlatField
from temshift.learning.devices import choose_device, single_threaded_operations
from temshift.learning.evidence import gather_evidence
from temshift.learning.inference import optimise_for_inference, predict_micrograph
from temshift.learning.metrics import dice
from temshift.learning.modelling import train_network_set
from temshift.learning.network_set import NetworkSet, TrainedNetwork
from temshift.learning.segmentation import PreparedMicrograph
from temshift.learning.training import Checkpoints
from temshift.microscopy import randomised
from temshift.microscopy.multislice import ExitWave
from temshift.microscopy.patches import PatchStack
from temshift.microscopy.randomised import (
    Condition,
    RandomField,
    draw_condition,
    draw_field,
    take,
)
from temshift.parallel import available_cores, map_ordered

__all__ = ["BOX", "PREPROCESSING", "calibrate_box", "pack", "train_box"]

#: Name of the network.
BOX = "box"

#: How a new image is prepared for it: nothing needs a pixel size or counts of a known camera. In
#: training the light stays as uneven as it is, which networks learn to bear up to a tenth; a flat
#: field does the rest (``benchmarks/boxed.py``: Dice .95 for .69 under light uneven by 30 %).
PREPROCESSING = randomised.PREPROCESSING.model_copy(
    update={"flat_field": FlatField(mode="background")}
)


def train_box(
    patches: PatchStack, parameters: BoxParameters, checkpoints: Checkpoints | None = None
) -> NetworkSet:
    """Train the folds, each without another part of the specimens.

    Parameters
    ----------
    patches : PatchStack
        Of :func:`temshift.microscopy.randomised.random_patches`.
    parameters : BoxParameters
    checkpoints : Checkpoints, optional
    """
    modelling = ModellingParameters(
        device="auto",
        protocols=["grouped"],
        folds=parameters.folds,
        architecture=Architecture(),
        training=Training(
            steps=parameters.steps,
            batch_size=parameters.batch_size,
            crop_px=parameters.crop_px,
            learning_rate=parameters.learning_rate,
            initialisation="standardised",
            foreground=0.5,
            schedule="one_cycle",
            keep="last",
            hold_out=False,
            validations=10,
            learned_above=0.4,
            restarts=1,
        ),
        augmentation=Augmentation(
            rotate_probability=0.0, pixel_size_factor=(0.75, 1.33), contrast=0.4
        ),
    )
    networks, _ = train_network_set(BOX, {BOX: patches}, modelling, checkpoints)
    return networks


def pack(networks: NetworkSet, fields: RandomFields) -> NetworkSet:
    """Return the networks as they are kept in the package: half precision, short cards.

    The card names the digest of its weights as they lie in the file, the smallest particles that
    they were trained on, and how a new image is prepared (:data:`PREPROCESSING`).
    """
    from safetensors.torch import save

    packed = {}
    for key, trained in networks.items():
        state = {
            name: (x.half() if x.is_floating_point() else x).contiguous()
            for name, x in trained.state.items()
        }
        card = trained.card.model_copy(
            update={
                "sha256": hashlib.sha256(save(state)).hexdigest(),
                "diameter_nm": fields.diameter_nm[0],
                "preprocessing": PREPROCESSING,
            }
        )
        packed[key] = TrainedNetwork(state, card)
    return packed


@dataclass(frozen=True)
class _Labelled:
    """A micrograph of the calibration."""

    name: str
    kind: str
    image: NDArray[Any]
    label: NDArray[np.bool_]
    pixel_size_nm: float


def calibrate_box(
    networks: NetworkSet,
    waves: Mapping[str, ExitWave],
    fields: RandomFields,
    exposures: RandomExposures,
    device: str = "auto",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gather the evidence on fields that no fold has seen, and the true Dice.

    Kinds of images are left out in turn when trust is learned from it: those of one range of doses,
    pixel sizes and diameters, and images of which a network can make nothing or little.

    Parameters
    ----------
    networks : NetworkSet
        Packed.
    waves : mapping of str to ExitWave
    fields : RandomFields
        What the waves were drawn from.
    exposures : RandomExposures
        As in training.
    device : str

    Returns
    -------
    evidence : DataFrame
        As :func:`temshift.learning.calibration.gather_study` gives it; the networks are the folds.
    agreement : DataFrame
    """
    device = choose_device(device)
    built = {}
    for key, trained in networks.items():
        network = trained.build().to(device)
        built[key] = network, optimise_for_inference(network)
    card = next(iter(networks.values())).card

    def gather(shot: _Labelled) -> tuple[pd.DataFrame, pd.DataFrame]:
        image = PreparedMicrograph(shot.image, shot.pixel_size_nm).of(card)
        found = {key: predict_micrograph([pair[1]], image, device) for key, pair in built.items()}
        evidence, agreement = gather_evidence(
            found,
            dict.fromkeys(built, image),
            {key: pair[0] for key, pair in built.items()},
            device=device,
        )
        masks = {key: found[key] > 0.5 for key in evidence["network"]}
        evidence["dice"] = [
            float(
                dice(
                    int((masks[key] & shot.label).sum()),
                    int((masks[key] & ~shot.label).sum()),
                    int((~masks[key] & shot.label).sum()),
                )
            )
            for key in evidence["network"]
        ]
        for table in (evidence, agreement):
            table.insert(0, "fold", 0)
            table.insert(0, "test_split", shot.kind)
            table.insert(0, "micrograph_id", shot.name)
        return evidence, agreement

    shots = list(_shots(waves, fields, exposures))
    workers = min(4, available_cores()) if device == "cpu" else 1
    with single_threaded_operations(device):
        found = list(map_ordered(gather, shots, workers, "calibration of the box"))
    evidence, agreement = (pd.concat(part, ignore_index=True) for part in zip(*found, strict=True))
    return _small(evidence), _small(agreement)


def _shots(
    waves: Mapping[str, ExitWave], fields: RandomFields, exposures: RandomExposures
) -> Iterator[_Labelled]:
    """Image every field under conditions as in training, and under some beyond them."""
    beyond: dict[str, dict[str, Any]] = {
        "dose below the training": {"dose_e_per_A2": (5.0, 25.0), "opaque": 0.0, "pictures": 0.0},
        "pixels above the training": {"pixel_size_nm": (0.07, 0.12)},
    }
    for number, (name, wave) in enumerate(waves.items()):
        field = draw_field(fields, number)
        for i in range(exposures.per_field):
            condition = draw_condition(exposures, fields.seed, name, i)
            image, label, pixel_size_nm = take(wave, condition)
            kind = _kind(field, condition)
            yield _Labelled(f"{name}_{i}", kind, image, label == 1, pixel_size_nm)
        chosen = list(beyond)[number % len(beyond)]
        other = exposures.model_copy(update=beyond[chosen])
        condition = draw_condition(other, fields.seed, name, exposures.per_field)
        image, label, pixel_size_nm = take(wave, condition)
        yield _Labelled(f"{name}_beyond", chosen, image, label == 1, pixel_size_nm)
        if number % 3 == 0:  # particles bright, as in a dark field
            yield _Labelled(
                f"{name}_inverted", "inverted", image.max() - image, label == 1, pixel_size_nm
            )
        if number % 3 == 1:
            rng = np.random.default_rng([condition.seed, 3])
            yield _Labelled(
                f"{name}_noise", "noise", _noise(rng), np.zeros((384, 384), bool), pixel_size_nm
            )


def _kind(field: RandomField, condition: Condition) -> str:
    if field.specimen is None:
        return "bare film"
    diameter_nm = field.specimen.diameter_nm
    size = "small" if diameter_nm < 3.0 else "medium" if diameter_nm < 6.0 else "large"
    dose = condition.dose_e_per_A2
    noise = "low" if dose < 150 else "middle" if dose < 500 else "high"
    return f"{size} particles, {noise} dose"


def _noise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise without an object, correlated over a random length."""
    from scipy.ndimage import gaussian_filter

    length_px = float(np.exp(rng.uniform(np.log(0.3), np.log(30.0))))
    noise = gaussian_filter(rng.standard_normal((384, 384)), length_px, mode="wrap")
    return (1000 + 100 * noise / noise.std()).astype(np.float32)


def _small(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.select_dtypes("float64").columns
    return table.astype(dict.fromkeys(numbers, "float32"))
