"""Whether a mask can be believed: predicted Dice, its interval, a verdict and reasons in words.

A study is a table of labelled shifts: networks tested on conditions that they have not seen. From
the evidence on each of these tests (:mod:`temshift.learning.evidence`) the Dice is learned, first
from the jury alone, by curves that only rise, then from all evidence by a random forest, which
learns what the jury gets wrong: where a condition is new, and the forest has nothing to say, the
jury's word stands. It is calibrated by leaving every condition out in turn, with all networks
trained on it, so that its errors are those on conditions that are new. Intervals are conformal
(Vovk, Gammerman & Shafer 2005; crepes), normalised by the spread of the trees and grouped by the
predicted Dice.

Nothing is pickled: the forest is fitted again from the table, which takes about a second.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.trust import TrustParameters
from temshift.learning.evidence import IMAGE_EVIDENCE, MASK_EVIDENCE, NETWORK_EVIDENCE
from temshift.parallel import available_cores

__all__ = [
    "FEATURES",
    "JURY_EVIDENCE",
    "TrustModel",
    "calibrate",
    "choose_threshold",
    "features_of",
    "intervals",
    "leave_one_condition_out",
]

#: What the other networks say, in words.
JURY_EVIDENCE = {
    "jury_mean": "agreement with networks of other conditions",
    "jury_median": "median agreement with networks of other conditions",
    "jury_best": "agreement with the network that agrees best",
    "jury_upper": "agreement with the better half of the other networks",
    "jury_among": "agreement of the other networks with each other",
}

#: Evidence from which the Dice is predicted.
FEATURES = {**JURY_EVIDENCE, **MASK_EVIDENCE, **NETWORK_EVIDENCE, **IMAGE_EVIDENCE}

#: What the rising curves are fitted to.
_RISING = ("jury_mean", "jury_upper", "jury_best")

#: With which the threshold of "do not trust" catches the wanted share of bad masks.
_THRESHOLD_CONFIDENCE = 0.95
#: Share of the other masks that it may reject for the sake of that confidence.
_FALSE_ALARMS = 0.1

#: Masks of conditions left out in each group of the conformal intervals, at least.
_PER_GROUP = 60

_KEYS = ["micrograph_id", "test_split", "fold"]


def features_of(
    evidence: pd.DataFrame, agreement: pd.DataFrame, left_out: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the features of every network on every micrograph.

    Parameters
    ----------
    evidence : DataFrame
        ``micrograph_id, test_split, fold, network`` and the single network's evidence.
    agreement : DataFrame
        ``micrograph_id, test_split, fold, network, juror, dice``.
    left_out : sequence of str
        Networks that are neither judged nor jurors.

    Returns
    -------
    DataFrame
        The rows of ``evidence`` of the other networks with the columns :data:`FEATURES`.
    """
    rows = evidence[~evidence["network"].isin(left_out)].reset_index(drop=True)
    pairs = agreement[
        ~agreement["network"].isin(left_out) & ~agreement["juror"].isin(left_out)
    ].merge(
        rows[[*_KEYS, "network", "soft_dice"]].rename(columns={"network": "juror"}),
        on=[*_KEYS, "juror"],
    )
    # a juror that is unsure of its own mask has little to say
    pairs["weight"] = pairs["soft_dice"] ** 4
    pairs["weighted"] = pairs["weight"] * pairs["dice"]
    keys = [*_KEYS, "network"]
    grouped = pairs.groupby(keys, sort=False)
    jury = pd.DataFrame(
        {
            "jury_mean": grouped["weighted"].sum() / grouped["weight"].sum(),
            "jury_median": grouped["dice"].median(),
            "jury_best": grouped["dice"].max(),
            "jury_upper": grouped["dice"].quantile(0.75),
        }
    ).reset_index()
    among = pairs.groupby(_KEYS, sort=False)["dice"].mean().rename("jury_among").reset_index()
    return rows.merge(jury, on=keys, how="left").merge(among, on=_KEYS, how="left")


@dataclass(frozen=True)
class Predictor:
    """What predicts the Dice of a mask from its evidence.

    Parameters
    ----------
    curves : dict of str to IsotonicRegression
        Dice by each measure of the jury's agreement; their mean is the first prediction.
    forest : RandomForestRegressor
        By how much that is wrong.
    """

    curves: dict[str, Any]
    forest: Any

    @classmethod
    def fit(cls, features: pd.DataFrame, parameters: TrustParameters) -> Predictor:
        """Fit to masks of known ``dice``."""
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.isotonic import IsotonicRegression

        dice = features["dice"].to_numpy()
        curves = {
            name: IsotonicRegression(out_of_bounds="clip").fit(_filled(features[name]), dice)
            for name in _RISING
        }
        forest = RandomForestRegressor(
            n_estimators=parameters.trees,
            min_samples_leaf=4,
            max_features=0.4,
            random_state=parameters.seed,
            n_jobs=available_cores(),  # the same forest, whatever their number
        )
        return cls(curves, forest.fit(_numbers(features), dice - _of_jury(curves, features)))

    def predict(self, features: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the predicted Dice, and the spread of the trees as a measure of difficulty."""
        numbers = _numbers(features)
        trees = np.stack([tree.predict(numbers) for tree in self.forest.estimators_])
        predicted = _of_jury(self.curves, features) + trees.mean(axis=0)
        return np.clip(predicted, 0.0, 1.0), trees.std(axis=0) + 0.02


@dataclass
class TrustModel:
    """A fitted predictor of Dice.

    Parameters
    ----------
    parameters : TrustParameters
    predictor : Predictor
    conformal : ConformalRegressor
        Fitted to the errors on conditions left out.
    bin_edges : ndarray
        Of the predicted Dice, the groups of the conformal intervals.
    reject_below : float
        Predicted Dice below which a mask is not to be trusted, chosen on conditions left out.
    images : DataFrame
        Image evidence of the calibration micrographs, of which novelty is measured.
    centre, scale : Series
        Median and spread of the image evidence.
    reach : float
        How far a calibrated condition lies from all others, at most: what is farther is new.
    fullest : float
        Largest share of a field that a mask of use covers in the calibration. Beyond it the flat
        field may have been fitted to particles, which no network can know.
    identity : str
        Digest of what it was fitted to.
    jury : str
        What the jury consists of, in words.
    """

    parameters: TrustParameters
    predictor: Predictor
    conformal: Any
    bin_edges: NDArray[np.float64]
    reject_below: float
    images: pd.DataFrame
    centre: pd.Series
    scale: pd.Series
    reach: float
    fullest: float
    identity: str = ""
    jury: str = "networks trained under other conditions"

    def __repr__(self) -> str:
        return (
            f"TrustModel: fitted to {len(self.images)} micrographs, jury of {self.jury}; do not "
            f"trust below a predicted Dice of {self.reject_below:.2f}"
        )

    @classmethod
    def fit(
        cls,
        evidence: pd.DataFrame,
        agreement: pd.DataFrame,
        trained_on: dict[str, list[str]],
        parameters: TrustParameters,
    ) -> TrustModel:
        """Fit to the tests of a study.

        Parameters
        ----------
        evidence : DataFrame
            As for :func:`features_of`, with the true ``dice``.
        agreement : DataFrame
        trained_on : dict of str to list of str
            Splits that each network was trained on.
        parameters : TrustParameters

        Raises
        ------
        ValueError
            Fewer than three conditions or networks: nothing can be left out.
        """
        judged = leave_one_condition_out(evidence, agreement, trained_on, parameters)
        conformal, edges = calibrate(judged)
        features = features_of(evidence, agreement)
        images = _images(features)
        centre, scale = _centre_and_scale(images)
        return cls(
            parameters=parameters,
            predictor=Predictor.fit(features, parameters),
            conformal=conformal,
            bin_edges=edges,
            reject_below=choose_threshold(judged, parameters),
            images=images,
            centre=centre,
            scale=scale,
            reach=_reach(images, centre, scale),
            fullest=_fullest(features, parameters.usable_dice),
            identity=_digest(evidence, agreement, trained_on, parameters),
        )

    def judge(self, features: pd.DataFrame) -> pd.DataFrame:
        """Judge masks.

        Parameters
        ----------
        features : DataFrame
            Of :func:`features_of`.

        Returns
        -------
        DataFrame
            ``micrograph_id, network, fold, predicted_dice, low, high, novelty, verdict, reasons``;
            ``novelty`` above 1 means farther from every calibrated image than any calibrated
            condition is from the others: no guarantee, and never "trust". The predicted Dice of a
            mask without particles is 0, whatever else its evidence says; the upper end of its
            interval is that of the evidence, for there may be nothing to be found.
        """
        predicted, spread = self.predictor.predict(features)
        interval = intervals(
            self.conformal, self.bin_edges, predicted, spread, self.parameters.confidence
        )
        empty = features["labelled_share"].to_numpy() == 0
        predicted, interval = np.where(empty, 0.0, predicted), np.array(interval)
        interval[empty, 0] = 0.0
        distance = _distance(features, self.images, self.centre, self.scale)
        rows = []
        records: list[dict[str, Any]] = features.to_dict("records")  # type: ignore[assignment]
        for i, row in enumerate(records):
            low, high = interval[i]
            novelty = float(distance[i] / self.reach)
            verdict = self._verdict(float(predicted[i]), float(low), novelty, row)
            reasons = self._reasons(row, float(predicted[i]), float(low), novelty)
            rows.append(
                {
                    "micrograph_id": row["micrograph_id"],
                    "network": row["network"],
                    "fold": row["fold"],
                    "predicted_dice": float(predicted[i]),
                    "low": float(low),
                    "high": float(high),
                    "novelty": novelty,
                    "verdict": verdict,
                    "reasons": "; ".join(reasons),
                }
            )
        return pd.DataFrame(rows)

    def _verdict(self, predicted: float, low: float, novelty: float, row: dict[str, Any]) -> str:
        if predicted < self.reject_below or row["labelled_share"] == 0:
            return "do not trust"
        new = novelty > 1 or row["labelled_share"] > self.fullest
        if new or low < self.parameters.usable_dice:
            return "check"
        return "trust"

    def _reasons(
        self, row: dict[str, Any], predicted: float, low: float, novelty: float
    ) -> list[str]:
        """Say why a mask gets its verdict; an empty list never comes back."""
        reasons, usable = [], self.parameters.usable_dice
        rejected = predicted < self.reject_below
        if row["labelled_share"] == 0:
            reasons.append("no particle was found")
        if novelty > 1:
            deviations = (pd.Series({k: row[k] for k in IMAGE_EVIDENCE}) - self.centre) / self.scale
            worst = str(deviations.abs().idxmax())
            side = "above" if deviations[worst] > 0 else "below"
            reasons.append(
                f"unlike every image of the calibration: its {IMAGE_EVIDENCE[worst]} lies "
                f"{abs(deviations[worst]):.1f} sd {side} their median, no guarantee here"
            )
        if row["labelled_share"] > self.fullest:
            reasons.append(
                f"{row['labelled_share']:.1%} of the field is called particle, more than in any "
                f"mask of use in the calibration ({self.fullest:.1%}), no guarantee here"
            )
        if row["labelled_share"] == 0:
            return reasons
        if predicted < usable:
            reasons.append(f"its predicted Dice is below {usable:g}")
        elif rejected:
            reasons.append(
                f"{100 * self.parameters.catch:.0f} % of the masks of the study that are of no use "
                f"(Dice below {usable:g}) were predicted below {self.reject_below:.2f}, as this "
                "one is"
            )
        elif low < usable:
            reasons.append(f"a Dice below {usable:g} cannot be ruled out")
        if rejected or low < usable:
            if row["jury_upper"] < usable:
                reasons.append(
                    f"{self.jury} draw other masks (Dice "
                    f"{row['jury_upper']:.2f} with the better half of them)"
                )
            if row["turned_dice"] < usable:
                reasons.append(
                    f"the turned image gives another mask (Dice {row['turned_dice']:.2f})"
                )
        return reasons or [
            f"like images of the calibration; {self.jury} agree (Dice "
            f"{row['jury_upper']:.2f} with the better half of them)"
        ]


def leave_one_condition_out(
    evidence: pd.DataFrame,
    agreement: pd.DataFrame,
    trained_on: dict[str, list[str]],
    parameters: TrustParameters,
) -> pd.DataFrame:
    """Predict the Dice on every condition without it and without the networks trained on it.

    Returns
    -------
    DataFrame
        ``test_split, micrograph_id, network, fold, dice, predicted, spread`` and the columns of
        :data:`FEATURES`.
    """
    conditions = list(dict.fromkeys(evidence["test_split"]))
    if len(conditions) < 3 or evidence["network"].nunique() < 3:
        raise ValueError(
            f"trust is learned by leaving conditions out: it needs at least 3 image sets and 3 "
            f"networks, found {len(conditions)} and {evidence['network'].nunique()}. Add splits "
            "and studies, or take the networks of another environment"
        )
    parts = []
    for condition in conditions:
        out = [n for n, splits in trained_on.items() if condition in splits]
        features = features_of(evidence, agreement, out)
        inside = features["test_split"] == condition
        predictor = Predictor.fit(features[~inside], parameters)
        predicted, spread = predictor.predict(features[inside])
        parts.append(features[inside].assign(predicted=predicted, spread=spread))
    return pd.concat(parts, ignore_index=True)


def calibrate(judged: pd.DataFrame) -> tuple[Any, NDArray[np.float64]]:
    """Fit conformal intervals to the errors on conditions left out.

    Parameters
    ----------
    judged : DataFrame
        Of :func:`leave_one_condition_out`.

    Returns
    -------
    conformal : ConformalRegressor
    edges : ndarray
        Of the predicted Dice, between the groups; none if there are few masks.
    """
    from crepes import ConformalRegressor

    groups = int(np.clip(len(judged) // _PER_GROUP, 1, 3))
    edges = np.quantile(judged["predicted"], np.arange(1, groups) / groups)
    conformal = ConformalRegressor()
    conformal.fit(
        (judged["dice"] - judged["predicted"]).to_numpy(),
        sigmas=judged["spread"].to_numpy(),
        bins=np.digitize(judged["predicted"], edges),
    )
    return conformal, edges


def intervals(
    conformal: Any,
    edges: NDArray[np.float64],
    predicted: NDArray[np.float64],
    spread: NDArray[np.float64],
    confidence: float,
) -> NDArray[np.float64]:
    """Return lower and upper ends, shape (n, 2), within 0 … 1."""
    with warnings.catch_warnings():
        # of too few masks an interval is all of 0 … 1, which says it
        warnings.filterwarnings("ignore", message="the no. of calibration examples is too")
        found: NDArray[np.float64] = conformal.predict_int(
            predicted,
            sigmas=spread,
            bins=np.digitize(predicted, edges),
            confidence=confidence,
            y_min=0.0,
            y_max=1.0,
        )
    return found


def _digest(
    evidence: pd.DataFrame,
    agreement: pd.DataFrame,
    trained_on: dict[str, list[str]],
    parameters: TrustParameters,
) -> str:
    digest = hashlib.sha256(repr((sorted(trained_on.items()), parameters)).encode())
    for table in (evidence, agreement):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _fullest(features: pd.DataFrame, usable_dice: float) -> float:
    usable = features.loc[features["dice"] >= usable_dice, "labelled_share"]
    return float(usable.max()) if len(usable) else 1.0


def _of_jury(curves: dict[str, Any], features: pd.DataFrame) -> NDArray[np.float64]:
    found = [curve.predict(_filled(features[name])) for name, curve in curves.items()]
    return np.asarray(np.mean(found, axis=0), np.float64)


def _filled(column: pd.Series[Any]) -> NDArray[np.float64]:
    return column.fillna(0.0).to_numpy(np.float64)


def _numbers(features: pd.DataFrame) -> NDArray[np.float32]:
    # networks without batch norm have no activations to watch: as if they were as in training
    return features[list(FEATURES)].fillna(0.0).to_numpy(np.float32)


def choose_threshold(judged: pd.DataFrame, parameters: TrustParameters) -> float:
    """Return the predicted Dice below which at least the wanted share of bad masks lies.

    Of other bad masks as often more as fewer lie below the quantile of those at hand. So it is the
    upper tolerance limit, below which the wanted share of all lies with a confidence of 95 %, were
    masks independent (Wilks, Ann. Math. Stat. 12, 91, 1941), as far as it rejects no more than a
    tenth of the others. Fewer than 29 bad masks (for 90 %) have no such limit: then it is their
    quantile. A mask that is predicted to be of no use is never above it.

    Parameters
    ----------
    judged : DataFrame
        Of :func:`leave_one_condition_out`.
    parameters : TrustParameters
    """
    from scipy.stats import binom

    is_bad = judged["dice"] < parameters.usable_dice
    bad, good = (np.sort(judged.loc[which, "predicted"].to_numpy()) for which in (is_bad, ~is_bad))
    if not len(bad):
        return parameters.usable_dice
    threshold = float(np.quantile(bad, parameters.catch))
    ranks = np.arange(len(bad))
    enough = binom.cdf(ranks, len(bad), parameters.catch) >= _THRESHOLD_CONFIDENCE
    if enough.any():
        limit = float(np.nextafter(bad[np.argmax(enough)], np.inf))
        spared = float(np.quantile(good, _FALSE_ALARMS)) if len(good) else limit
        threshold = max(threshold, min(limit, spared))
    return max(parameters.usable_dice, threshold)


def _images(features: pd.DataFrame) -> pd.DataFrame:
    return features.drop_duplicates(["micrograph_id", "test_split"])[
        ["test_split", *IMAGE_EVIDENCE]
    ].reset_index(drop=True)


def _centre_and_scale(images: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    numbers = images[list(IMAGE_EVIDENCE)]
    spread = (numbers.quantile(0.84) - numbers.quantile(0.16)) / 2
    return numbers.median(), spread.clip(lower=1e-6)


def _distance(
    features: pd.DataFrame, images: pd.DataFrame, centre: pd.Series, scale: pd.Series
) -> NDArray[np.float64]:
    """Return the distance of each row to the nearest image, root mean square in units of scale."""
    names = list(IMAGE_EVIDENCE)
    here = ((features[names] - centre) / scale).to_numpy(float)
    there = ((images[names] - centre) / scale).to_numpy(float)
    squares = np.square(here[:, None, :] - there[None, :, :]).mean(axis=-1)
    nearest: NDArray[np.float64] = np.sqrt(squares.min(axis=1))
    return nearest


def _reach(images: pd.DataFrame, centre: pd.Series, scale: pd.Series) -> float:
    """Return the largest median distance of a condition to all the others."""
    medians = []
    for condition, part in images.groupby("test_split"):
        others = images[images["test_split"] != condition]
        medians.append(float(np.median(_distance(part, others, centre, scale))))
    return max(medians)
