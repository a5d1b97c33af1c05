"""Trials of a sweep, one after the other: a run each, drawn and remembered by Optuna.

A trial is a Kedro run of its own, with its own catalog, in the folder of the sweep: patches,
networks, scores. What is up to date is not made again, so a sweep that was stopped goes on where
it stopped, and one with more trials makes the further ones only. A graph of all trials would have
thousands of nodes, and could not be drawn from what earlier trials have found.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline
from pydantic import ValidationError

import temshift
from temshift.binding import bind, by_owner, each
from temshift.catalog.micrographs import MicrographStore
from temshift.catalog.sweeps import SweepStore, import_optuna
from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.splits import SplitParameters, StudyParameters
from temshift.config.sweep import Range, SweepParameters, laid_over
from temshift.learning.checks import check_architectures
from temshift.learning.network_set import NetworkSet
from temshift.learning.sweeping import (
    check_held_out,
    check_training_groups,
    held_out_scores,
    positions_beside,
)
from temshift.microscopy.patches import PatchStack, PatchStream
from temshift.runner.incremental import IncrementalRunner
from temshift.study.sweeps import DEFAULTS

__all__ = ["Sweep", "run_sweep"]

_log = logging.getLogger(__name__)

#: What decides on which groups is trained and judged, and what is built.
_CHECKED = (
    "train_on",
    "modelling.architecture",
    "modelling.training.crop_px",
    "modelling.training.groups",
    "preprocessing.patch_px",
)


@dataclass(frozen=True)
class Sweep:
    """What a sweep starts from.

    Attributes
    ----------
    parameters : SweepParameters
    modelling, preprocessing, curation
        Of the study; a trial's settings are laid over them.
    splits : dict of str to SplitParameters
    judged : list of str
        Splits that every trial is trained and judged on.
    tables : dict of str to DataFrame
        Micrographs of each split.
    store : MicrographStore
    """

    parameters: SweepParameters
    modelling: ModellingParameters
    preprocessing: PreprocessingParameters
    curation: CurationParameters
    splits: Mapping[str, SplitParameters]
    judged: list[str]
    tables: Mapping[str, pd.DataFrame]
    store: MicrographStore

    @cached_property
    def masks(self) -> str:
        """A digest of all masks: a table knows the contents of images only."""
        files = sorted({path for table in self.tables.values() for path in table["label_path"]})
        return _digest({path: self.store.sha256(path) for path in files})

    @cached_property
    def name(self) -> str:
        """A digest of everything on which the trials depend: other trials are another sweep."""
        space = self.parameters.model_dump(mode="json", exclude={"trials"})
        return _digest(
            [
                space,
                self.modelling.model_dump(mode="json", exclude={"device"}),
                self.preprocessing.model_dump(mode="json"),
                self.curation.model_dump(mode="json"),
                {name: self.splits[name].model_dump(mode="json") for name in self.tables},
                {name: table.to_csv(index=False) for name, table in self.tables.items()},
                self.masks,
                self.judged,
                temshift.__version__,
            ]
        )


def run_sweep(sweep: Sweep, trials: SweepStore) -> pd.DataFrame:
    """Run the trials that are not finished; return the scores of all.

    Returns
    -------
    DataFrame
        ``trial, settings`` (JSON), ``fold, validation_dice, learned, failed, training_groups`` and
        ``dice_on_<set>`` of each of ``also_on``.

    Raises
    ------
    UserError
        Sets that cannot be judged by, architectures that do not fit: before the first trial.
    """
    _check(sweep)
    parts = [_run_trial(sweep, trials, DEFAULTS, {})]
    for number, settings, tell in _drawn(sweep, trials):
        trial = f"{number:04d}"
        said = ", ".join(f"{key}: {value}" for key, value in settings.items())
        try:
            scores = _run_trial(sweep, trials, trial, settings)
        except FloatingPointError as error:  # a rate that is too high is a result
            why = "; ".join(str(error).splitlines())
            _log.warning("Trial %s (%s) failed: %s", trial, said, why)
            scores = pd.DataFrame({"fold": [None], "failed": [why]})
            scores = scores.assign(trial=trial, settings=json.dumps(settings))
            tell(None)
        else:
            mean = float(scores["validation_dice"].mean())
            _log.info("Trial %s (%s): validation Dice %.3f", trial, said, mean)
            tell(mean)
        parts.append(scores)
    columns = ["trial", "settings", "fold", "validation_dice", "learned", "failed"]
    columns += ["training_groups", *(f"dice_on_{name}" for name in sweep.parameters.also_on)]
    return pd.concat([part.reindex(columns=columns) for part in parts], ignore_index=True)


def _check(sweep: Sweep) -> None:
    combinations = [{}, *sweep.parameters.combinations(_CHECKED)]
    choices: list[list[str]] = [sweep.judged]
    for settings in combinations:
        if settings.get("train_on", sweep.judged) not in choices:
            choices.append(settings["train_on"])
    check_held_out(sweep.tables, choices, sweep.judged)
    for choice in choices:
        trained = pd.concat([sweep.tables[name] for name in choice], ignore_index=True)
        for name in sweep.parameters.also_on:
            positions_beside(trained, sweep.tables[name], sweep.modelling.folds)
    known = set()
    for settings in combinations:
        try:
            modelling, preprocessing = laid_over(settings, sweep.modelling, sweep.preprocessing)
        except ValidationError:  # not without other values of keys that are not looked at here
            continue
        trained = settings.get("train_on", sweep.judged)
        micrographs = pd.concat([sweep.tables[name] for name in trained], ignore_index=True)
        check_training_groups(micrographs, modelling.folds, modelling.training.groups)
        sides = [modelling.training.crop_px, preprocessing.patch_px]
        shape = _digest([modelling.architecture.model_dump(), sides, trained])
        if shape in known:
            continue
        known.add(shape)
        # no study of its own, which would have two sets at least: rows to be built
        rows = StudyParameters.model_construct(varies="preprocessing", splits=trained, networks=[])
        plan = StudyPlan(splits={s: sweep.splits[s] for s in trained}, studies={"sweep": rows})
        check_architectures(plan, modelling, preprocessing)


def _drawn(sweep: Sweep, trials: SweepStore) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Yield number and settings of every trial, and what is to be told its result.

    Those that were begun come first, as they were drawn; a draw depends on the seed and the
    finished trials alone, not on when the sweep was stopped.
    """
    optuna = import_optuna()
    parameters = sweep.parameters
    combinations = list(parameters.combinations()) if parameters.method == "grid" else []
    wanted = parameters.trials or len(combinations)
    if combinations:
        wanted = min(wanted, len(combinations))
    distributions = {k: _distribution(optuna, v) for k, v in parameters.varied.items()}
    study = trials.study(sweep.name)
    state = optuna.trial.TrialState
    for number in range(wanted):
        # one that was cut off while it was drawn lacks settings, and counts for nothing
        whole = [t for t in study.get_trials() if set(t.params) == set(distributions)]
        if number < len(whole):
            place, drawn = whole[number].number, whole[number].params
        else:
            if combinations:
                chosen = {k: json.dumps(v) for k, v in combinations[number].items()}
                study.enqueue_trial(chosen, skip_if_exists=True)
            seed = int(_digest([parameters.seed, number])[:8], 16)
            samplers = optuna.samplers
            kind = samplers.TPESampler if parameters.method == "tpe" else samplers.RandomSampler
            study.sampler = kind(seed=seed)
            asked = study.ask(distributions)
            place, drawn = asked.number, asked.params
        settings = {
            key: json.loads(drawn[key]) if isinstance(parameters.varied[key], list) else drawn[key]
            for key in parameters.varied
        }

        def tell(value: float | None, place: int = place) -> None:
            ended = {"state": state.FAIL} if value is None else {"values": value}
            study.tell(place, **ended, skip_if_finished=True)

        yield number, settings, tell


def _distribution(optuna: Any, values: list[Any] | Range) -> Any:
    if isinstance(values, list):
        return optuna.distributions.CategoricalDistribution([json.dumps(v) for v in values])
    whole = isinstance(values.min, int) and isinstance(values.max, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(values.min, values.max, log=values.log)


def _run_trial(
    sweep: Sweep, trials: SweepStore, trial: str, settings: dict[str, Any]
) -> pd.DataFrame:
    """Run one trial, as far as it is not up to date; return its scores."""
    modelling, preprocessing = laid_over(settings, sweep.modelling, sweep.preprocessing)
    trained = settings.get("train_on", sweep.judged)
    splits = [*trained, *sweep.parameters.also_on]
    cut = _digest(
        [
            preprocessing.model_dump(mode="json"),
            sweep.curation.model_dump(mode="json"),
            sweep.masks,
        ]
    )
    nodes = [
        Node(
            bind(_cut, split),
            {
                "micrographs": f"{split}.micrographs",
                "store": "store",
                "preprocessing": "params:preprocessing",
                "own": f"params:{split}",
                "curation": "params:curation",
            },
            f"{split}.patches",
            name=f"cut_{split}_{cut}",
        )
        for split in splits
    ]
    patches = each(splits, "patches")
    own = f"{sweep.name}_{trial}"
    nodes += [
        Node(_manifest, "params:trial", "manifest", name=f"manifest_{own}"),
        Node(
            _train,
            {
                "modelling": "params:modelling",
                "checkpoints": "checkpoints",
                **each(trained, "patches"),
            },
            ["networks", "history"],
            name=f"train_{own}",
        ),
        Node(
            bind(_judge, tuple(sweep.judged), tuple(sweep.parameters.also_on)),
            {"networks": "networks", "modelling": "params:modelling", **patches},
            "scores",
            name=f"judge_{own}",
        ),
    ]
    catalog = trials.catalog(
        sweep.name,
        trial,
        cut,
        splits,
        {
            "store": sweep.store,
            "params:modelling": modelling,
            "params:preprocessing": preprocessing,
            "params:curation": sweep.curation,
            "params:trial": {
                "trial": trial,
                "settings": settings,
                "train_on": list(trained),
                "judged_on": sweep.judged,
                "also_on": sweep.parameters.also_on,
                "modelling": modelling.model_dump(mode="json"),
                "preprocessing": preprocessing.model_dump(mode="json"),
                "temshift": temshift.__version__,
            },
            **{f"params:{split}": sweep.splits[split] for split in splits},
            **{f"{split}.micrographs": sweep.tables[split] for split in splits},
        },
    )
    IncrementalRunner(workers=1).run(Pipeline(nodes), catalog)
    scores: pd.DataFrame = catalog.load("scores")
    return scores.assign(trial=trial, settings=json.dumps(settings), failed=None)


# ------------------------------------------------------------------------ the nodes of a trial
def _cut(
    split: str,
    micrographs: pd.DataFrame,
    store: MicrographStore,
    preprocessing: PreprocessingParameters,
    own: SplitParameters,
    curation: CurationParameters,
) -> PatchStream:
    from temshift.microscopy.split_patches import patch_split

    return patch_split(
        split,
        micrographs,
        store,
        preprocessing.with_overrides(own.preprocessing),
        curation.label_kind,
        curation.pixel_size_tolerance,
    )


def _manifest(trial: dict[str, Any]) -> dict[str, Any]:
    return trial


def _train(
    modelling: ModellingParameters, checkpoints: Any, **patches: PatchStack
) -> tuple[NetworkSet, pd.DataFrame]:
    from temshift.learning.modelling import train_network_set

    # one name, so that all trials begin from the same seeds
    return train_network_set("sweep", by_owner(patches), modelling, checkpoints)


def _judge(
    judged: tuple[str, ...],
    also_on: tuple[str, ...],
    networks: NetworkSet,
    modelling: ModellingParameters,
    **patches: PatchStack,
) -> pd.DataFrame:
    stacks = by_owner(patches)
    beside = {name: stacks.pop(name) for name in also_on}
    return held_out_scores(networks, stacks, judged, modelling, beside)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
