"""Typed parameters: one pydantic model per block of ``conf/*/parameters_*.yml``.

Node arguments are annotated with these models, so that Kedro validates every block before the
first node runs; a misspelt key or an impossible value is an error that names the key. The
models also answer the questions from which the pipelines are built (:class:`StudyPlan`).

Nothing here is computed from data, and nothing heavy is imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "MICROGRAPH_COLUMNS",
    "Architecture",
    "Augmentation",
    "CurationParameters",
    "DownloadParameters",
    "EvaluationParameters",
    "ImportParameters",
    "ModellingParameters",
    "NetworkParameters",
    "PreprocessingParameters",
    "SplitParameters",
    "StudyParameters",
    "StudyPlan",
    "Training",
    "nearest",
]

#: Columns of the micrograph table a split may select on (the data contract).
MICROGRAPH_COLUMNS = (
    "micrograph_id",
    "path",
    "label_path",
    "specimen_id",
    "material",
    "diameter_nm",
    "shape",
    "support",
    "instrument",
    "session",
    "dose_e_per_A2",
    "pixel_size_nm",
    "defocus_A",
    "source",
    "sha256",
)

_M = TypeVar("_M", bound=BaseModel)

NAME = r"^[A-Za-z][A-Za-z0-9_]*$"


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return a hint such as ``"did you mean 'dose_e_per_A2'? Valid: ..."``.

    Parameters
    ----------
    wrong : str
        What was found.
    valid : iterable of str
        What could have stood there.
    """
    names = sorted(map(str, valid))
    close = difflib.get_close_matches(str(wrong), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}Valid: {', '.join(names) if names else '(none)'}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


# --------------------------------------------------------------------------- data curation
class CurationParameters(_Strict):
    """How the metadata table and the label images are to be read (``curation``).

    Attributes
    ----------
    columns : dict of str to str
        Contract column to the name it has in the table, e.g. ``{dose_e_per_A2: Dosage (e/A2)}``,
        or to a template of such names, e.g. ``{label_path: "masks/{File.stem}.png"}``.
    constants : dict
        Values of contract columns that the table lacks, e.g. ``{material: Au}``.
    date_format : str, optional
        ``strptime`` format of the session column; ISO dates need none.
    label_kind : {"binary", "instance"}
        ``binary``: {0, 1} or {0, 255}; ``instance``: 0 is background, any other value a particle.
    pixel_size_tolerance : float
        Relative difference between header and table above which a warning is given.
    group_by : {"specimen_id", "micrograph_id", "session"}
        What is kept together when folds are made (protocol ``grouped``); a micrograph of an
        unknown specimen or session is on its own.
    fold_seed : int
        Seed of the order in which groups are given to folds.
    """

    columns: dict[str, str] = {}
    constants: dict[str, Any] = {}
    date_format: str | None = None
    label_kind: Literal["binary", "instance"] = "binary"
    pixel_size_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    group_by: Literal["specimen_id", "micrograph_id", "session"] = "specimen_id"
    fold_seed: Annotated[int, Field(ge=0)] = 20240115

    @field_validator("columns", "constants")
    @classmethod
    def _known_columns(cls, value: dict[str, Any]) -> dict[str, Any]:
        for column in value:
            if column not in MICROGRAPH_COLUMNS:
                raise ValueError(
                    f"unknown column {column!r}; {nearest(column, MICROGRAPH_COLUMNS)}"
                )
        return value


class FlatField(_Strict):
    """Flat-field correction (DESIGN §6).

    ``mode`` says what is divided out: ``fit`` a polynomial fitted to each micrograph, ``none``
    nothing.
    """

    mode: Literal["fit", "none"] = "fit"
    downsample: Annotated[int, Field(ge=1)] = 4


class XrayRemoval(_Strict):
    """X-ray outliers: counts above the median by which a pixel is an outlier, and passes."""

    threshold: Annotated[float, Field(gt=0)] = 1500.0
    passes: Annotated[int, Field(ge=0)] = 2


class PreprocessingParameters(_Strict):
    """Steps between a raw micrograph and its patches (``preprocessing``).

    Attributes
    ----------
    flat_field, xray : FlatField, XrayRemoval
    standardise : bool
        Mean 0, standard deviation 1 for each micrograph.
    pixel_size_nm : float, optional
        Resample every micrograph to this pixel size; ``None`` leaves it.
    patch_px : int
        Side of a square patch.
    shuffle_seed : int
        Seed of the order of the micrographs.
    """

    flat_field: FlatField = FlatField()
    xray: XrayRemoval = XrayRemoval()
    standardise: bool = True
    pixel_size_nm: Annotated[float, Field(gt=0)] | None = None
    patch_px: Annotated[int, Field(ge=32, multiple_of=16)] = 512
    shuffle_seed: Annotated[int, Field(ge=0)] = 34522

    def with_overrides(self, overrides: Mapping[str, Any]) -> PreprocessingParameters:
        """Return these parameters with a split's own ``preprocessing`` laid over them."""
        return _overlay(self, overrides)


Scalar = str | float | int
Condition = Scalar | list[Scalar] | dict[Literal["value", "tolerance", "min", "max"], float]


class SplitParameters(_Strict):
    """One image set: the rows of the micrograph table that ``where`` selects, or a curated set.

    Attributes
    ----------
    where : dict
        Column to a value, a list of values, ``{value, tolerance}`` or ``{min, max}``.
    preprocessing : dict
        Overrides of :class:`PreprocessingParameters` for this split only.
    curated : str, optional
        Name of a set of ready-made patches (files ``<name>_Images.h5`` and ``<name>_Labels.h5``)
        that the split consists of; ``where`` then tells what the set shows. It skips curation and
        preprocessing, and only the protocol ``published`` can be run on it.
    """

    where: dict[str, Condition] = Field(min_length=1)
    preprocessing: dict[str, Any] = {}
    curated: str | None = None

    @field_validator("preprocessing")
    @classmethod
    def _valid_overrides(cls, value: dict[str, Any]) -> dict[str, Any]:
        _overlay(PreprocessingParameters(), value)
        return value

    @model_validator(mode="after")
    def _ready_made(self) -> SplitParameters:
        if self.curated is not None and self.preprocessing:
            raise ValueError("a curated set is preprocessed already: it takes no 'preprocessing'")
        return self

    @field_validator("where")
    @classmethod
    def _known_columns(cls, value: dict[str, Any]) -> dict[str, Any]:
        for column in value:
            if column not in MICROGRAPH_COLUMNS:
                raise ValueError(
                    f"'where' names the unknown column {column!r}; "
                    f"{nearest(column, MICROGRAPH_COLUMNS)}"
                )
        return value


class StudyParameters(_Strict):
    """A set of splits that differ in one thing, tested crosswise.

    Attributes
    ----------
    varies : str
        What differs: a column of the micrograph table, or ``preprocessing``.
    splits : list of str
        Rows (networks trained on them) and columns (test sets) of the matrix.
    networks : list of str
        Further rows: names in ``networks``.
    """

    varies: str
    splits: list[str] = Field(min_length=2)
    networks: list[str] = []

    @field_validator("varies")
    @classmethod
    def _known_axis(cls, value: str) -> str:
        valid = (*MICROGRAPH_COLUMNS, "preprocessing")
        if value not in valid:
            raise ValueError(
                f"'varies' names the unknown column {value!r}; {nearest(value, valid)}"
            )
        return value


# --------------------------------------------------------------------------- modelling
class Architecture(_Strict):
    """A network: ``published_unet`` or the name of a segmentation-models-pytorch class."""

    name: str = "published_unet"
    encoder: str | None = None
    encoder_weights: str | None = None
    options: dict[str, Any] = {}


class NoiseAugmentation(_Strict):
    """``(x + N(0, rho^2)) / sqrt(1 + rho^2)``; rho fixed, or uniform in [0, rho_max] per patch."""

    rho: Annotated[float, Field(gt=0)] | None = None
    rho_max: Annotated[float, Field(gt=0)] | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _one_of_two(self) -> NoiseAugmentation:
        if (self.rho is None) == (self.rho_max is None):
            raise ValueError("give exactly one of 'rho' (fixed) and 'rho_max' (uniform)")
        return self


class Augmentation(_Strict):
    """What happens to a training patch on the fly.

    Attributes
    ----------
    dihedral : {"random", "all", "none"}
        The 8 flips and quarter turns of a patch: one at random, each of them in every epoch (an
        epoch is then eight times as long, as in the study), or none.
    rotate_probability : float
        Share of patches turned by a random angle; corners get the median background, label 0.
    noise : NoiseAugmentation, optional
    pixel_size : (float, float), optional
        Range of a random magnification factor.
    contrast : float, optional
        Half-range of a random contrast factor ``1 ± c``.
    """

    dihedral: Literal["random", "all", "none"] = "random"
    rotate_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    noise: NoiseAugmentation | None = None
    pixel_size: tuple[float, float] | None = None
    contrast: Annotated[float, Field(gt=0, lt=1)] | None = None


class Training(_Strict):
    """Optimisation (DESIGN §7).

    Attributes
    ----------
    epochs : int
        Passes; one pass draws every training patch once (cropped to ``crop_px``).
    steps : int, optional
        Total optimiser steps instead of ``epochs``: the same work for every split.
    batch_size, learning_rate, crop_px
        ``crop_px = None`` trains on whole patches.
    foreground : float
        Share of the crops that are centred on a particle's pixel rather than drawn anywhere
        (as in nnU-Net): with few steps, networks learn sooner that there are particles at all.
    schedule : {"constant", "one_cycle"}
        One-cycle rises to ``learning_rate`` and falls again.
    keep : {"best", "last"}
        Weights of the lowest validation loss, or of the end.
    hold_out : bool
        Keep some groups (or patches) back for validation; if not, they are trained on too, and
        the history has no validation scores. ``keep: best`` needs it.
    background_threshold : int
        Patches with at most this many labelled pixels are left out of training.
    validations : int
        With ``steps``: how often the validation loss is measured, evenly over the training
        (with ``epochs``: after every epoch).
    seeds : list of int
        Seed of each fold.
    checkpoint_every : int
        Validations between checkpoints, from which a killed run goes on; 0 keeps none.
    """

    epochs: Annotated[int, Field(gt=0)] | None = None
    steps: Annotated[int, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(gt=0)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    crop_px: Annotated[int, Field(ge=32, multiple_of=16)] | None = None
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    keep: Literal["best", "last"] = "best"
    hold_out: bool = True
    background_threshold: Annotated[int, Field(ge=0)] = 400
    validations: Annotated[int, Field(gt=0)] = 5
    seeds: list[int] = [962, 1662, 621, 72115, 45521]
    checkpoint_every: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of 'epochs' and 'steps'")
        if self.keep == "best" and not self.hold_out:
            raise ValueError("'keep: best' is judged by validation: it needs 'hold_out: true'")
        return self


class ModellingParameters(_Strict):
    """Defaults of every network (``modelling``).

    Attributes
    ----------
    device : {"auto", "cpu", "cuda", "mps"} or "cuda:N"
    precision : {"auto", "float32", "bfloat16"}
    protocols : list of {"grouped", "published"}
        How folds are made (DESIGN §4); networks are trained for each.
    folds : int
        Number of folds.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    protocols: list[Literal["grouped", "published"]] = Field(["grouped"], min_length=1)
    folds: Annotated[int, Field(ge=2)] = 5
    architecture: Architecture = Architecture()
    training: Training = Training(epochs=250)
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _a_seed_each(self) -> ModellingParameters:
        if len(self.training.seeds) < self.folds:
            raise ValueError(
                f"{self.folds} folds need as many training.seeds, found {len(self.training.seeds)}"
            )
        return self

    def with_overrides(self, network: NetworkParameters | None) -> ModellingParameters:
        """Return the defaults with one network's own settings laid over them."""
        if network is None:
            return self
        blocks = {
            key: value
            for key in ("architecture", "training", "augmentation")
            if (value := getattr(network, key))
        }
        return _overlay(self, blocks)


class NetworkParameters(_Strict):
    """A row of the matrices beyond the default network of each split (``networks.<name>``).

    Attributes
    ----------
    train_on : list of str
        Splits whose union it is trained on.
    imported : bool
        Its weights come from elsewhere (pipeline ``import_published``); nothing is trained.
    architecture, training, augmentation : dict
        Overrides of the defaults in ``modelling``.
    """

    train_on: list[str] = []
    imported: bool = False
    architecture: dict[str, Any] = {}
    training: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> NetworkParameters:
        if self.imported and (self.training or self.augmentation):
            raise ValueError("an imported network takes no 'training' and no 'augmentation'")
        if not self.imported and not self.train_on:
            raise ValueError("'train_on' must name at least one split")
        return self


# --------------------------------------------------------------------------- reporting
class EvaluationParameters(_Strict):
    """How networks are judged (``reporting``).

    Attributes
    ----------
    batch_size : int
        Patches predicted at a time.
    bootstrap : int
        Resamples behind each interval.
    bootstrap_seed : int
    confidence : float
        Coverage of the intervals.
    degrades_below, breaks_below : float
        A shift *degrades* a network if the gap to the in-domain network of the test set is
        larger than the first, and *breaks* it if larger than the second (Dice).
    examples : bool
        Keep best, median and worst micrograph of each cell as pictures.
    """

    batch_size: Annotated[int, Field(gt=0)] = 8
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    bootstrap_seed: Annotated[int, Field(ge=0)] = 7
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    degrades_below: Annotated[float, Field(ge=0, lt=1)] = 0.03
    breaks_below: Annotated[float, Field(gt=0, le=1)] = 0.15
    examples: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> EvaluationParameters:
        if self.breaks_below <= self.degrades_below:
            raise ValueError("'breaks_below' must be larger than 'degrades_below'")
        return self


# --------------------------------------------------------------------------- the published study
class DownloadParameters(_Strict):
    """What is fetched before curation (``download``); from where, the catalog says.

    Attributes
    ----------
    table : str
        File name of the metadata table.
    """

    table: str


class ImportParameters(_Strict):
    """The trained networks of the published study (``import_published``).

    Attributes
    ----------
    model_list : str
        File name of the study's list of weight files.
    networks : dict of str to str
        Name of a network here: the set it was trained on, as the model list names it.
    """

    model_list: str
    networks: dict[Annotated[str, Field(pattern=NAME)], str] = Field(min_length=1)


# --------------------------------------------------------------------------- the whole plan
class StudyPlan(BaseModel):
    """Splits, studies and networks together: the questions the pipelines ask when they are built.

    Raises
    ------
    ValueError
        (from :meth:`from_parameters`) all inconsistencies at once: a study or network naming an
        unknown split, a network with the name of a split it is not trained on, a bad name.
    """

    splits: dict[Annotated[str, Field(pattern=NAME)], SplitParameters]
    studies: dict[Annotated[str, Field(pattern=NAME)], StudyParameters]
    networks: dict[Annotated[str, Field(pattern=NAME)], NetworkParameters] = {}

    @field_validator("splits", "studies", "networks", mode="before")
    @classmethod
    def _drop_removed(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: entry for name, entry in value.items() if entry is not None}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> StudyPlan:
        """Build the plan from the parameters of a Kedro environment.

        An environment removes what it inherits from ``base`` by setting it to ``null``.
        """
        plan = cls(**{b: parameters.get(b) or {} for b in ("splits", "studies", "networks")})
        plan._check()
        if modelling := parameters.get("modelling"):
            defaults = ModellingParameters.model_validate(modelling)
            if plan.curated_splits and defaults.protocols != ["published"]:
                raise ValueError(
                    f"splits.{next(iter(plan.curated_splits))} is a curated set, whose patches do "
                    "not say which micrograph they are of: only the protocol 'published' can be "
                    f"run on it, but modelling.protocols is {defaults.protocols}. Set it to "
                    "[published]"
                )
            for name, network in plan.networks.items():
                try:
                    defaults.with_overrides(network)
                except ValueError as error:
                    raise ValueError(
                        f"networks.{name} does not fit 'modelling': {error}"
                    ) from error
        return plan

    def _check(self) -> None:
        problems = []
        for name, study in self.studies.items():
            for split in study.splits:
                if split not in self.splits:
                    problems.append(
                        f"studies.{name} names the unknown split {split!r}; "
                        f"{nearest(split, self.splits)}"
                    )
            for row in study.networks:
                if row not in self.networks:
                    problems.append(
                        f"studies.{name} names the unknown network {row!r}; "
                        f"{nearest(row, self.networks)}"
                    )
        for name, network in self.networks.items():
            for split in network.train_on:
                if split not in self.splits:
                    problems.append(
                        f"networks.{name} is trained on the unknown split {split!r}; "
                        f"{nearest(split, self.splits)}"
                    )
            if name in self.splits and network.train_on != [name]:
                problems.append(
                    f"networks.{name} has the name of a split but is not trained on it alone: "
                    f"choose another name"
                )
        if problems:
            raise ValueError("The parameters do not fit together:\n- " + "\n- ".join(problems))

    @property
    def used_splits(self) -> list[str]:
        """Splits that a study tests on or a network is trained on, in the order declared."""
        used = {s for study in self.studies.values() for s in study.splits}
        used |= {s for n in self.rows for s in self.train_on(n)}
        return [s for s in self.splits if s in used]

    @property
    def curated_splits(self) -> dict[str, str]:
        """Name of the curated set of every used split that is one."""
        used = {name: self.splits[name].curated for name in self.used_splits}
        return {name: curated for name, curated in used.items() if curated is not None}

    @property
    def rows(self) -> list[str]:
        """All networks that appear in a study."""
        rows = [s for study in self.studies.values() for s in study.splits]
        rows += [n for study in self.studies.values() for n in study.networks]
        return list(dict.fromkeys(rows))

    @property
    def trained(self) -> list[str]:
        """Networks to be trained (those not imported)."""
        return [n for n in self.rows if not (n in self.networks and self.networks[n].imported)]

    def train_on(self, network: str) -> list[str]:
        """Return the splits a network is trained on."""
        if network in self.networks:
            return list(self.networks[network].train_on)
        return [network]

    def tested_on(self, network: str) -> list[str]:
        """Return the splits a network is tested on: those of every study it is a row of."""
        tested = {
            split
            for study in self.studies.values()
            if network in study.splits or network in study.networks
            for split in study.splits
        }
        return [s for s in self.splits if s in tested]


def _overlay(model: _M, overrides: Mapping[str, Any]) -> _M:
    """Return ``model`` with nested ``overrides`` laid over it, validated again."""

    def merge(base: Any, top: Any) -> Any:
        if isinstance(base, dict) and isinstance(top, Mapping):
            return {**base, **{k: merge(base.get(k), v) for k, v in top.items()}}
        return top

    data = merge(model.model_dump(), dict(overrides))
    return type(model).model_validate(data)
