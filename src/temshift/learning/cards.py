"""What is known of a network beside its weights: one card, whoever made the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from temshift.config.base import Strict, nearest
from temshift.config.modelling import Architecture, Augmentation, Training
from temshift.config.preprocessing import PreprocessingParameters

__all__ = ["CardError", "NetworkCard", "agreed", "read_card"]


class CardError(ValueError):
    """A card of another shape: which keys, what was found there and what was expected."""


class NetworkCard(Strict):
    """Where the weights of one fold come from, and what images they are for.

    A key without a default is stated by every card, be it as unknown (``None``, empty).

    Attributes
    ----------
    network : str
        Name of the network: its row in the matrices.
    protocol : {"grouped", "published"}
    fold, folds : int
        This fold, from 0, and how many there are.
    seed : int, optional
        Of the attempt that was kept.
    restarts : int
        How often it was started again, having learned nothing.
    learned : bool
        Whether its Dice on some of its own training patches, ``train_dice``, reached
        ``training.learned_above``.
    train_on : list of str
        Splits it was trained on.
    imported : bool
        Trained elsewhere; then ``file``, ``sha256`` and ``trained_set`` say where it comes from.
    architecture : Architecture
    training : Training
    augmentation : Augmentation
    precision : str, optional
        Of the operations in training, ``float32`` or ``bfloat16``.
    preprocessing : PreprocessingParameters, optional
        Steps from a raw micrograph to an image as the network knows it; ``None`` if unknown, or
        if the training splits differ in them.
    pixel_size_nm, dose_e_per_A2, diameter_nm : float, optional
        Of the training images, if they agree in it; pixel size after resampling.
    material : str, optional
    fingerprints : dict of str to dict
        Of all patches of each training split
        (:func:`temshift.microscopy.fingerprints.fingerprint`).
    splits : dict of str to dict
        What the patches of each training split say of themselves, such as the SHA-256 of every
        micrograph; also of those of the networks from whose weights it started.
    train_groups, test_groups : list of str
        Independent units (specimens or micrographs) it was trained on and is tested on.
    history : list of dict
        Loss and Dice, one entry a validation.
    kept_step : int, optional
        Step whose weights these are.
    fold_hash : str, optional
        Of the patches of this fold.
    trained_set : str, optional
        Training set by the name it has where the network was trained.
    file, sha256 : str, optional
        Weight file that was imported; the digest also of one that comes with the package.
    initial, freeze : str
        Network from whose weights the training started, and what of them stayed as it was.
    fine_tuned : dict, optional
        How it was trained further on a few labelled patches
        (:func:`temshift.learning.fine_tuning.fine_tune_network`); the rest of the card is that of
        the network before.
    version : str
        Of temshift, when the card was written.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    protocol: Literal["grouped", "published"]
    fold: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=1)]
    seed: int | None
    restarts: Annotated[int, Field(ge=0)] = 0
    learned: bool = True
    train_dice: float | None = None
    train_on: list[str]
    imported: bool = False
    architecture: Architecture
    training: Training
    augmentation: Augmentation
    precision: str | None = None
    preprocessing: PreprocessingParameters | None
    pixel_size_nm: Annotated[float, Field(gt=0)] | None
    dose_e_per_A2: Annotated[float, Field(gt=0)] | None
    material: str | None
    diameter_nm: Annotated[float, Field(gt=0)] | None
    fingerprints: dict[str, dict[str, Any]]
    splits: dict[str, dict[str, Any]] = Field(default_factory=dict)
    train_groups: list[str]
    test_groups: list[str]
    history: list[dict[str, Any]]
    kept_step: int | None = None
    fold_hash: str | None = None
    trained_set: str | None = None
    file: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    initial: str | None = None
    freeze: str = "none"
    fine_tuned: dict[str, Any] | None = None
    version: str

    @model_validator(mode="after")
    def _one_of_the_folds(self) -> NetworkCard:
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: folds are counted from 0")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the card as JSON takes it (NaN as null); :func:`read_card` gives it back."""
        return self.model_dump(mode="json")


def read_card(data: Any) -> NetworkCard:
    """Return the card that JSON holds.

    Raises
    ------
    CardError
        Keys that are missing, unknown or hold something else: all of them, each with what was
        found and what was expected.
    """
    try:
        return NetworkCard.model_validate(data)
    except ValidationError as error:
        raise CardError("; ".join(_problem(e) for e in error.errors())) from error


def agreed(attributes: Iterable[Mapping[str, Any]], key: str) -> Any:
    """Return what all training splits state alike for a key, else ``None``."""
    values = [split.get(key) for split in attributes]
    return values[0] if values and all(value == values[0] for value in values) else None


def _problem(error: Any) -> str:
    """Say which key is wrong, what was found and what was expected."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"key {key!r}: found nothing, expected a value"
    if error["type"] == "extra_forbidden":
        hint = f"; {nearest(key, NetworkCard.model_fields)}" if "." not in key else ""
        return f"key {key!r}: found {_shown(error['input'])}, expected no such key{hint}"
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    what = f"key {key!r}" if key else "the card"
    return f"{what}: found {_shown(error['input'])}, expected {message}"


def _shown(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + " ..."
