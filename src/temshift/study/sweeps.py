"""What a sweep has found: its trials in order, and whether the best is better than the defaults."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from temshift.study.few_labels import mean_over_parts

__all__ = [
    "CURVE_COLUMNS",
    "DEFAULTS",
    "HELD_OUT",
    "best_sentence",
    "curve_sentences",
    "learning_curve",
    "rank_trials",
]

#: Name of the trial in which nothing is changed.
DEFAULTS = "defaults"

#: What a learning curve may be drawn over, the first that is varied: key, and what it counts.
AXES = {
    "modelling.training.groups": "training groups",
    "modelling.training.steps": "training steps",
}

#: Name of the sets that trials are trained and judged on, in a learning curve.
HELD_OUT = "held out, in domain"

#: Columns of a learning curve.
CURVE_COLUMNS = (
    *("axis", "settings", "tested_on", "trial", "amount", "folds"),
    *("dice", "dice_low", "dice_high", "gain", "gain_low", "gain_high", "effect"),
)

#: Of up to so many folds every pattern of signs is taken; of more, so many at random.
_EXACT, _DRAWN = 12, 4096


def rank_trials(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return one row a trial, the best first.

    Parameters
    ----------
    scores : DataFrame
        ``trial``, ``settings`` (JSON), ``fold``, ``validation_dice`` and ``learned``, one row a
        trial and fold; the trial :data:`DEFAULTS` among them. A trial that failed has one row
        without a fold and ``failed`` says why.
    seed : int
        Of the patterns of signs, if there are more than 12 folds.

    Returns
    -------
    DataFrame
        ``trial, settings, validation_dice`` (mean over folds), ``worst_fold, learned_folds, folds,
        gain`` (mean difference to the defaults, paired by fold), ``p`` (below) and ``failed``.

    Notes
    -----
    The best of many equal trials looks better than the defaults by luck alone. ``p`` allows for
    that: it is the share of patterns of signs, put on the differences of each fold, in which the
    largest mean gain of *any* trial is at least this trial's (sign-flipping with the maximum
    statistic, Westfall & Young 1993; Nichols & Holmes 2002). With n folds it is 2^-n at least.
    """
    rows = []
    done = scores.dropna(subset=["fold"])
    wide = done.set_index(["trial", "fold"])["validation_dice"].unstack()  # noqa: PD010
    gains = wide.sub(wide.loc[DEFAULTS], axis="columns")
    p = _maximum_p(gains.drop(index=DEFAULTS), seed)
    for name, own in scores.groupby("trial", sort=False):
        trial = str(name)
        ran = own.dropna(subset=["fold"])
        rows.append(
            {
                "trial": trial,
                "settings": own["settings"].iloc[0],
                "validation_dice": ran["validation_dice"].mean(),
                "worst_fold": ran["validation_dice"].min(),
                "learned_folds": int(ran["learned"].sum()),
                "folds": len(ran),
                "gain": gains.loc[trial].mean() if trial in gains.index else np.nan,
                "p": p.get(trial, np.nan),
                "failed": own["failed"].iloc[0],
            }
        )
    table = pd.DataFrame(rows)
    return table.sort_values("validation_dice", ascending=False, kind="stable", ignore_index=True)


def _maximum_p(gains: pd.DataFrame, seed: int) -> dict[str, float]:
    if gains.empty:
        return {}
    n = gains.shape[1]
    if n <= _EXACT:
        signs = np.array(list(product((1, -1), repeat=n)))
    else:
        drawn = np.random.default_rng(seed).choice((1, -1), size=(_DRAWN - 1, n))
        signs = np.vstack([np.ones((1, n), int), drawn])
    values = gains.to_numpy()
    largest = (signs @ values.T / n).max(axis=1)
    observed = values.mean(axis=1)
    tolerance = 1e-12
    return {
        str(trial): float((largest >= mean - tolerance).mean())
        for trial, mean in zip(gains.index, observed, strict=True)
    }


def best_sentence(table: pd.DataFrame, confidence: float = 0.95) -> str:
    """Say whether a trial is better than the defaults by more than the luck of the best of many.

    Parameters
    ----------
    table : DataFrame
        Of :func:`rank_trials`.
    confidence : float
    """
    trials = table[(table["trial"] != DEFAULTS) & table["validation_dice"].notna()]
    if trials.empty:
        return "No trial was finished."
    best = trials.iloc[0]
    folds, n = int(best["folds"]), len(trials)
    base = table.loc[table["trial"] == DEFAULTS, "validation_dice"].iloc[0]
    found = (
        f"The best of {n} trials is trial {best['trial']}: validation Dice "
        f"{best['validation_dice']:.3f}, the defaults {base:.3f}"
    )
    if 0.5**folds > 1 - confidence:
        needed = int(np.ceil(np.log2(1 / (1 - confidence)) - 1e-9))
        return f"{found}. {folds} folds cannot tell it from luck: at least {needed} are needed."
    if best["p"] <= 1 - confidence and best["gain"] > 0:
        return (
            f"{found}; better than the best of so many equal trials would be (p = {best['p']:.3f})."
        )
    return (
        f"{found}. Among so many trials that is no more than luck may give (p = {best['p']:.2f})."
    )


def learning_curve(scores: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return the Dice by the amount of training, in the domain and out of it.

    Parameters
    ----------
    scores : DataFrame
        As :func:`rank_trials` takes them, with ``training_groups`` (how many a fold was trained on)
        and ``dice_on_<set>`` of each set that was measured beside.
    confidence : float
        Of the interval of each Dice, and of the intervals of all gains of a curve together.

    Returns
    -------
    DataFrame
        :data:`CURVE_COLUMNS`, a row an amount, set and combination of the other ``settings``
        (JSON). ``amount`` counts what ``axis`` says: training groups, in the mean over folds, or
        steps. ``gain`` is the mean difference to the smallest amount, fold by fold; ``effect`` is
        ``gain`` or ``loss`` where its interval leaves out 0, else ``not shown``. Empty where
        neither groups nor steps were varied.

    Notes
    -----
    Intervals are those of :func:`temshift.study.few_labels.mean_over_parts`.
    """
    done = scores.dropna(subset=["fold"])
    settings = {str(t): json.loads(own["settings"].iloc[0]) for t, own in done.groupby("trial")}
    key = next((k for k in AXES if any(k in own for own in settings.values())), None)
    curves: dict[str, dict[float, str]] = {}
    for trial, own in settings.items() if key is not None else ():
        if key not in own:
            continue
        rows = done[done["trial"] == trial]
        counted = key == "modelling.training.groups"
        amount = float(rows["training_groups"].mean()) if counted else own[key]
        if amount is not None:
            other = json.dumps({k: v for k, v in own.items() if k != key}, sort_keys=True)
            curves.setdefault(other, {}).setdefault(float(amount), trial)
    sets = {HELD_OUT: "validation_dice"}
    sets |= {c.removeprefix("dice_on_"): c for c in done.columns if c.startswith("dice_on_")}
    rows_of: list[dict[str, Any]] = []
    for other, trials in curves.items():
        for name, column in sets.items() if len(trials) > 1 else ():
            wide = done.pivot_table(index="fold", columns="trial", values=column)
            for row in _curve(wide, dict(sorted(trials.items())), confidence):
                rows_of.append(
                    {"axis": AXES[str(key)], "settings": other, "tested_on": name, **row}
                )
    return pd.DataFrame(rows_of, columns=list(CURVE_COLUMNS))


def _curve(wide: pd.DataFrame, trials: dict[float, str], confidence: float) -> list[dict[str, Any]]:
    """Return the rows of one curve; ``wide`` is the Dice by fold and trial."""
    together = 1 - (1 - confidence) / (len(trials) - 1)
    least = wide[next(iter(trials.values()))].to_numpy(float)
    weights = np.ones(len(wide))
    rows = []
    for number, (amount, trial) in enumerate(trials.items()):
        values = wide[trial].to_numpy(float)
        dice, low, high = mean_over_parts(values, weights, confidence)
        row = {"trial": trial, "amount": amount, "folds": len(values), "dice": dice}
        row |= {"dice_low": max(low, 0.0), "dice_high": min(high, 1.0)}
        if number > 0:
            gain, low, high = mean_over_parts(values - least, weights, together)
            effect = "gain" if low > 0 else "loss" if high < 0 else "not shown"
            row |= {"gain": gain, "gain_low": low, "gain_high": high, "effect": effect}
        rows.append(row)
    return rows


def curve_sentences(curve: pd.DataFrame) -> list[str]:
    """Say what more training brings, a sentence a curve; a gain only where its interval shows it.

    Parameters
    ----------
    curve : DataFrame
        Of :func:`learning_curve`.
    """
    sentences = []
    for (other, tested_on), rows in curve.groupby(["settings", "tested_on"], sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        span = f"from {first['amount']:g} to {last['amount']:g} {last['axis']}"
        change = f"{last['gain']:+.3f}"
        if np.isfinite(last["gain_low"]):
            change += f" [{last['gain_low']:.3f}, {last['gain_high']:.3f}]"
        said = {"gain": "rises", "loss": "falls", "not shown": "shows neither gain nor loss"}
        place = tested_on if other == "{}" else f"{tested_on}, {other}"
        sentences.append(f"{place}: {span} the Dice {said[last['effect']]} ({change}).")
    return sentences
