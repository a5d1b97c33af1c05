"""Training a finished network further on a few labelled patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from temshift.config.fine_tuning import FineTuning
from temshift.config.modelling import ModellingParameters, Training
from temshift.learning.devices import choose_device, choose_precision, single_threaded_operations
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.training import FoldTrainer, TrainingData
from temshift.microscopy.patches import PatchLayout
from temshift.study.folds import FoldIndices

__all__ = ["fine_tune_network"]


def fine_tune_network(
    trained: TrainedNetwork,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    parameters: FineTuning,
    layouts: Sequence[PatchLayout] | None = None,
    device: str = "auto",
) -> TrainedNetwork:
    """Train a network further.

    Parameters
    ----------
    trained : TrainedNetwork
        Stays as it is.
    images : ndarray, shape (N, P, P), float32
        Patches, prepared as the card says (standardised).
    labels : ndarray, shape (N, P, P), uint8
        1 where a particle is.
    parameters : FineTuning
    layouts : sequence of PatchLayout, optional
        Micrographs that the patches show, so that crops lie anywhere in them; ``None`` draws crops
        from single patches.
    device : str

    Returns
    -------
    TrainedNetwork
        With a card that says by ``fine_tuned`` what was done.

    Raises
    ------
    ValueError
        No patch, or none with a labelled pixel; shapes that differ.
    """
    if images.ndim != 3 or images.shape != labels.shape:
        raise ValueError(
            f"patches and labels must have one shape (N, P, P), found {images.shape} and "
            f"{labels.shape}"
        )
    if not labels.any():
        raise ValueError(
            f"nothing to learn from: none of the {len(images)} patches has a labelled pixel"
        )
    device = choose_device(device)
    data = TrainingData.from_arrays([images], [labels], device, layouts)
    modelling = ModellingParameters(
        protocols=["grouped"],
        architecture=trained.card.architecture,
        training=Training(
            steps=parameters.steps,
            batch_size=parameters.batch_size,
            crop_px=min(parameters.crop_px, images.shape[1] // 16 * 16),
            learning_rate=parameters.learning_rate,
            foreground=parameters.foreground,
            schedule="one_cycle",
            keep="last",
            hold_out=False,
            validations=1,
            background_threshold=0,
        ),
        augmentation=parameters.augmentation,
    )
    none = np.array([], np.intp)
    trainer = FoldTrainer(
        data,
        FoldIndices(train=np.arange(len(images)), validation=none, test=none),
        modelling,
        [parameters.seed],
        device,
        choose_precision("auto", device),
        start=trained.state,
        freeze=parameters.freeze,
        name=f"fine-tuning {trained.card.network}, fold {trained.card.fold}",
        rate_key="fine_tuning.learning_rate",
    )
    with single_threaded_operations(device):
        while not trainer.finished:
            trainer.advance()
    done = {**parameters.model_dump(mode="json"), "patches": len(images)}
    card = trained.card.model_copy(update={"fine_tuned": done, "sha256": None, "file": None})
    return TrainedNetwork(trainer.result().state, card)
