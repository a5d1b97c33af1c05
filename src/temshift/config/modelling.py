"""Networks and their training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from temshift.config.base import Ascending, EachOnce, Strict, overlay

__all__ = [
    "Adaptation",
    "Architecture",
    "Augmentation",
    "ModellingParameters",
    "NetworkParameters",
    "NoiseAugmentation",
    "TargetTuning",
    "Training",
]


#: Of a pixel size: beyond it a crop holds less than a particle, or hardly more than its own pixels.
_Factor = Annotated[float, Field(ge=0.2, le=5)]


class Architecture(Strict):
    """A network: ``published_unet`` or the name of a segmentation-models-pytorch class.

    Attributes
    ----------
    name, encoder, encoder_weights
        Of the class; the published U-Net has no encoder.
    normalisation : {"batch", "instance", "group"}
        Of the published U-Net; the study's own is ``batch``. The other two take their statistics
        from each image (or each tile of a large one), in training and test alike.
    options : dict
        Further arguments of the class.
    """

    name: str = "published_unet"
    encoder: str | None = None
    encoder_weights: str | None = None
    normalisation: Literal["batch", "instance", "group"] = "batch"
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _has_levels(self) -> Architecture:
        filters = self.options.get("filters")
        if self.name == "published_unet" and "filters" in self.options:
            whole = isinstance(filters, list | tuple) and all(
                isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in filters
            )
            if not filters or not whole:
                raise ValueError(
                    f"'options.filters' of published_unet is {filters!r}; expected a list of "
                    "whole numbers above 0, one for each level, e.g. [4, 8, 16, 32]"
                )
        return self

    @model_validator(mode="after")
    def _own_normalisation(self) -> Architecture:
        if self.normalisation != "batch" and self.name != "published_unet":
            raise ValueError(
                f"'normalisation: {self.normalisation}' is a choice of published_unet; {self.name} "
                "has that of its class: leave it out"
            )
        return self


class NoiseAugmentation(Strict):
    """``(x + N(0, rho^2)) / sqrt(1 + rho^2)``; rho fixed, or uniform in [0, rho_max] per patch."""

    rho: Annotated[float, Field(gt=0)] | None = None
    rho_max: Annotated[float, Field(gt=0)] | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _one_of_two(self) -> NoiseAugmentation:
        if (self.rho is None) == (self.rho_max is None):
            raise ValueError("give exactly one of 'rho' (fixed) and 'rho_max' (uniform)")
        return self


class Augmentation(Strict):
    """What happens to a training patch on the fly.

    Attributes
    ----------
    dihedral : {"random", "all", "none"}
        The 8 flips and quarter turns of a patch: one at random, each of them in every epoch (an
        epoch is then eight times as long, as in the study), or none.
    rotate_probability : float
        Share of patches turned by a random angle; corners get the median background, label 0.
    noise : NoiseAugmentation, optional
    pixel_size_factor : (float, float), optional
        Lowest and highest of a random factor of the pixel size, 0.2 to 5; below 1 magnifies.
    contrast : float, optional
        Half-range of a random contrast factor ``1 ± c``.
    """

    dihedral: Literal["random", "all", "none"] = "random"
    rotate_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    noise: NoiseAugmentation | None = None
    pixel_size_factor: Annotated[tuple[_Factor, _Factor], Ascending] | None = None
    contrast: Annotated[float, Field(gt=0, lt=1)] | None = None


class Training(Strict):
    """Optimisation.

    Attributes
    ----------
    epochs : int
        Passes; one pass draws one crop for every training patch.
    steps : int, optional
        Total optimiser steps instead of ``epochs``: the same work for every split. Batches are
        always full: an epoch may begin and end within one.
    batch_size, learning_rate, crop_px
        Crops are drawn anywhere in a whole micrograph (protocol ``published``: in a patch);
        ``crop_px = None`` takes crops of the size of a patch (``published``: the patch itself).
    foreground : float
        Share of the first crops that are centred on a particle's pixel rather than drawn anywhere
        (as in nnU-Net): networks learn sooner that there are particles at all. It falls to 0 by
        the middle of the training; a share that lasts makes networks see particles everywhere.
    initialisation : {"published", "standardised"}
        Initial weights of the published U-Net: as in the study (Kaiming's), or these rescaled by
        what they give for the first training crops
        (:func:`temshift.learning.networks.standardise_outputs`), from which every seed learns.
    schedule : {"constant", "one_cycle"}
        One-cycle rises to ``learning_rate`` and falls again.
    keep : {"best", "last"}
        Weights of the lowest validation loss, or of the end.
    hold_out : bool
        Keep some groups (or patches) back for validation; if not, they are trained on too, and
        the history has no validation scores. ``keep: best`` needs it.
    groups : int, optional
        How many groups (specimens) each fold is trained on, for learning curves (protocol
        ``grouped``); ``None``: all. Fewer are always among more; tests stay the same.
    background_threshold : int
        Patches with at most this many labelled pixels are left out of the protocol ``published``.
        ``grouped`` needs one patch with more in every training set, and trains on all.
    validations : int
        With ``steps``: how often the validation loss is measured, evenly over the training
        (with ``epochs``: after every epoch).
    seed : int
        From it, the name of the network, the protocol and the fold comes the seed of each fold.
    seeds : list of int
        Seed of each fold of the protocol ``published`` instead.
    learned_above : float
        Dice on some of its own training patches from which on a fold counts as having learned.
    restarts : int
        How often a fold that has not learned is started again, each time from another seed. If
        the last attempt fails too, the best one is kept and flagged (``learned``).
    checkpoint_every : int
        Validations between checkpoints, from which a killed run goes on; 0 keeps none.
    """

    epochs: Annotated[int, Field(gt=0)] | None = None
    steps: Annotated[int, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(gt=0)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    crop_px: Annotated[int, Field(ge=32, multiple_of=16)] | None = None
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.0
    initialisation: Literal["published", "standardised"] = "published"
    schedule: Literal["constant", "one_cycle"] = "constant"
    keep: Literal["best", "last"] = "best"
    hold_out: bool = True
    groups: Annotated[int, Field(gt=0)] | None = None
    background_threshold: Annotated[int, Field(ge=0)] = 400
    validations: Annotated[int, Field(gt=0)] = 5
    seed: Annotated[int, Field(ge=0)] = 962
    seeds: list[Annotated[int, Field(ge=0)]] = [962, 1662, 621, 72115, 45521]
    learned_above: Annotated[float, Field(ge=0, le=1)] = 0.6
    restarts: Annotated[int, Field(ge=0)] = 2
    checkpoint_every: Annotated[int, Field(ge=0)] = 1

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of 'epochs' and 'steps'")
        if self.keep == "best" and not self.hold_out:
            raise ValueError("'keep: best' is judged by validation: it needs 'hold_out: true'")
        return self


class ModellingParameters(Strict):
    """Defaults of every network (``modelling``).

    Attributes
    ----------
    device : {"auto", "cpu", "cuda", "mps"} or "cuda:N"
    precision : {"auto", "float32", "bfloat16"}
    protocols : list of {"grouped", "published"}
        How folds are made (:mod:`temshift.study.folds`); networks are trained for each.
    folds : int
        Number of folds.
    """

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    protocols: Annotated[list[Literal["grouped", "published"]], Field(min_length=1), EachOnce] = [
        "grouped"
    ]
    folds: Annotated[int, Field(ge=2)] = 5
    architecture: Architecture = Architecture()
    training: Training = Training(epochs=250)
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _a_seed_each(self) -> ModellingParameters:
        if "published" in self.protocols and self.training.groups is not None:
            raise ValueError(
                "'training.groups' counts the groups of the protocol 'grouped'; folds of "
                "'published' are of patches: train on fewer groups with 'protocols: [grouped]'"
            )
        if "published" in self.protocols and len(self.training.seeds) < self.folds:
            raise ValueError(
                f"{self.folds} folds of the protocol 'published' need as many training.seeds, "
                f"found {len(self.training.seeds)}"
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
        return overlay(self, blocks)


class Adaptation(Strict):
    """What is done to a trained network, or to the images, for each set it is tested on.

    Neither takes a label of that set, and nothing is trained.

    Attributes
    ----------
    batch_norm : bool
        The statistics of its batch norms are taken from the images that it is tested on.
    pixel_size : bool
        Images are resampled to the pixel size of its training images, and predictions back.
    """

    batch_norm: bool = False
    pixel_size: bool = False

    @model_validator(mode="after")
    def _something(self) -> Adaptation:
        if not (self.batch_norm or self.pixel_size):
            raise ValueError("adapt at least one of 'batch_norm' and 'pixel_size'")
        return self


class TargetTuning(Strict):
    """A few labelled micrographs of another split, on which a trained network is trained further.

    For each fold they are of groups that belong to other folds: none of them, and no other
    micrograph of their groups, is ever tested. Fewer are always among more.

    Attributes
    ----------
    split : str
        The split that they are of.
    micrographs : int
        How many.
    steps, learning_rate
        As in :class:`temshift.config.fine_tuning.FineTuning`.
    seed : int
        Which micrographs, and the order of training.
    """

    split: str
    micrographs: Annotated[int, Field(gt=0)]
    steps: Annotated[int, Field(gt=0)] = 100
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    seed: Annotated[int, Field(ge=0)] = 17


class NetworkParameters(Strict):
    """A row of the matrices beyond the default network of each split (``networks.<name>``).

    Attributes
    ----------
    train_on : list of str
        Splits whose union it is trained on.
    imported : bool
        Its weights come from elsewhere (pipeline ``import_published``); nothing is trained.
    initial : str, optional
        Network from whose weights, fold by fold, the training starts (transfer); ``None``: from
        random ones. It must be a row of a study, with the same architecture.
    freeze : {"none", "encoder", "decoder"}
        What of these weights stays as it is.
    weights_of : str, optional
        Network whose weights it takes, instead of a training of its own.
    adaptation : Adaptation, optional
        What these weights, or the images, are adapted to in each test.
    fine_tuning : TargetTuning, optional
        What these weights are trained further on before they are tested.
    architecture, training, augmentation : dict
        Overrides of the defaults in ``modelling``.
    """

    train_on: Annotated[list[str], EachOnce] = []
    imported: bool = False
    initial: str | None = None
    freeze: Literal["none", "encoder", "decoder"] = "none"
    weights_of: str | None = None
    adaptation: Adaptation | None = None
    fine_tuning: TargetTuning | None = None
    architecture: dict[str, Any] = {}
    training: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> NetworkParameters:
        if self.weights_of is not None:
            own = ("train_on", "imported", "initial", "architecture", "training", "augmentation")
            if given := [key for key in own if getattr(self, key)]:
                raise ValueError(
                    f"a network with the weights of {self.weights_of!r} takes no "
                    + " and no ".join(repr(key) for key in given)
                )
            if (self.adaptation is None) == (self.fine_tuning is None):
                raise ValueError(
                    "'weights_of' needs 'adaptation' or 'fine_tuning', one of the two, which says "
                    "what is done to them"
                )
            return self
        for key in ("adaptation", "fine_tuning"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key!r} needs 'weights_of': the network that it is done to")
        if self.imported and (self.training or self.augmentation):
            raise ValueError("an imported network takes no 'training' and no 'augmentation'")
        if self.imported and self.initial is not None:
            raise ValueError("an imported network is not trained: it takes no 'initial'")
        if self.freeze != "none" and self.initial is None:
            raise ValueError(
                f"'freeze: {self.freeze}' keeps weights of another network: name it as 'initial'"
            )
        if not self.imported and not self.train_on:
            raise ValueError("'train_on' must name at least one split")
        return self
