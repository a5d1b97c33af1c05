"""What a sweep has found: its trials in order, and whether the best is better than the defaults."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

__all__ = ["DEFAULTS", "best_sentence", "rank_trials"]

#: Name of the trial in which nothing is changed.
DEFAULTS = "defaults"

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
