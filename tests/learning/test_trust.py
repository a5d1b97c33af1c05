"""Trust learned from made-up studies: one in which the jury knows, one in which nothing does."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from tests.learning.test_segmentation import network_set

from temshift.api import load_trust
from temshift.config.trust import TrustParameters
from temshift.learning.evidence import IMAGE_EVIDENCE, MASK_EVIDENCE, NETWORK_EVIDENCE
from temshift.learning.trust import (
    FEATURES,
    Predictor,
    TrustModel,
    choose_threshold,
    features_of,
    leave_one_condition_out,
)

PARAMETERS = TrustParameters(trees=30)
CONDITIONS = [f"c{i}" for i in range(6)]
ON = {name: [name] for name in CONDITIONS}


def study(informative: bool, micrographs: int = 8, seed: int = 0):
    """Evidence and agreement of six networks on six conditions."""
    rng = np.random.default_rng(seed)
    rows, pairs = [], []
    for split in CONDITIONS:
        shift = rng.normal(0, 1)
        for m in range(micrographs):
            keys = {"micrograph_id": f"{split}/{m}", "test_split": split, "fold": m % 3}
            image = {name: shift + rng.normal(0, 0.3) for name in IMAGE_EVIDENCE}
            true = {n: rng.choice([rng.uniform(0.1, 0.5), rng.uniform(0.7, 0.98)]) for n in ON}
            told = true if informative else {n: rng.uniform(0.1, 0.98) for n in ON}
            for name in ON:
                other = {k: rng.uniform(0.1, 1) for k in (*MASK_EVIDENCE, *NETWORK_EVIDENCE)}
                rows.append({**keys, "network": name, **image, **other, "dice": true[name]})
                pairs += [
                    {
                        **keys,
                        "network": name,
                        "juror": juror,
                        "dice": float(np.clip(told[name] + rng.normal(0, 0.03), 0, 1)),
                    }
                    for juror in ON
                    if juror != name
                ]
    return pd.DataFrame(rows), pd.DataFrame(pairs)


def test_an_informative_jury_predicts_the_dice_of_conditions_left_out():
    evidence, agreement = study(informative=True)
    judged = leave_one_condition_out(evidence, agreement, ON, PARAMETERS)
    error = (judged["dice"] - judged["predicted"]).abs().mean()
    constant = (judged["dice"] - judged["dice"].mean()).abs().mean()
    assert error < 0.25 * constant
    fresh = study(informative=True, seed=9)
    verdicts = TrustModel.fit(evidence, agreement, ON, PARAMETERS).judge(features_of(*fresh))
    true = features_of(*fresh)["dice"]
    inside = (verdicts["low"] <= true) & (true <= verdicts["high"])
    assert inside.mean() > 0.85
    bad = true < 0.6
    assert (verdicts["verdict"][bad] == "do not trust").mean() > 0.9
    assert (verdicts["verdict"][~bad] == "do not trust").mean() < 0.1
    assert (verdicts["verdict"] == "trust").any()


def test_where_nothing_is_informative_nothing_is_trusted():
    evidence, agreement = study(informative=False)
    judged = leave_one_condition_out(evidence, agreement, ON, PARAMETERS)
    error = (judged["dice"] - judged["predicted"]).abs().mean()
    assert error > 0.8 * (judged["dice"] - judged["dice"].mean()).abs().mean()
    model = TrustModel.fit(evidence, agreement, ON, PARAMETERS)
    verdicts = model.judge(features_of(*study(informative=False, seed=9)))
    assert not (verdicts["verdict"] == "trust").any()
    assert (verdicts["high"] - verdicts["low"]).median() > 0.5


def test_the_condition_left_out_and_its_networks_have_no_part_in_its_prediction():
    evidence, agreement = study(informative=True)
    judged = leave_one_condition_out(evidence, agreement, ON, PARAMETERS)
    assert not ((judged["network"] == judged["test_split"]).any())
    changed = evidence.copy()
    changed.loc[changed["test_split"] == "c0", "dice"] = 0.123
    again = leave_one_condition_out(changed, agreement, ON, PARAMETERS)
    own = judged["test_split"] == "c0"
    assert np.array_equal(judged["predicted"][own], again["predicted"][own])
    assert not np.array_equal(judged["predicted"][~own], again["predicted"][~own])


def test_an_image_unlike_all_is_never_trusted_and_says_what_is_unlike():
    evidence, agreement = study(informative=True)
    model = TrustModel.fit(evidence, agreement, ON, PARAMETERS)
    features = features_of(evidence, agreement)
    assert (model.judge(features)["verdict"] == "trust").any()
    strange = features.assign(noise=features["noise"] + 50)
    judged = model.judge(strange)
    assert not (judged["verdict"] == "trust").any()
    assert (judged["novelty"] > 1).all()
    assert judged["reasons"].str.contains("its pixel noise lies .* sd above").all()
    assert judged["reasons"].str.contains("no guarantee here").all()


def test_a_mask_without_particles_is_not_trusted():
    evidence, agreement = study(informative=True)
    model = TrustModel.fit(evidence, agreement, ON, PARAMETERS)
    judged = model.judge(features_of(evidence, agreement).assign(labelled_share=0.0))
    assert set(judged["verdict"]) == {"do not trust"}
    assert judged["reasons"].str.contains("no particle was found").all()
    assert (judged[["predicted_dice", "low"]] == 0).all(axis=None), "whatever was labelled"
    assert (judged["high"] > 0).any(), "there may be nothing to label"


def test_a_mask_that_fills_more_of_the_field_than_any_of_use_is_not_trusted():
    evidence, agreement = study(informative=True)
    bad = evidence["dice"] < PARAMETERS.usable_dice
    evidence["labelled_share"] = np.where(bad, 0.9, 0.2)  # of no use, so no measure
    evidence.loc[(~bad).idxmax(), "labelled_share"] = 0.3
    model = TrustModel.fit(evidence, agreement, ON, PARAMETERS)
    assert model.fullest == 0.3
    features = features_of(evidence, agreement)
    trusted = model.judge(features)["verdict"] == "trust"
    assert trusted.any()
    judged = model.judge(features[trusted].assign(labelled_share=0.31))
    assert set(judged["verdict"]) == {"check"}
    assert judged["reasons"].str.startswith("31.0% of the field is called particle").all()


def of(bad, good=()):
    bad, good = np.asarray(bad, float), np.asarray(good, float)
    dice = np.repeat([0.3, 0.9], [len(bad), len(good)])
    return pd.DataFrame({"dice": dice, "predicted": np.concatenate([bad, good])})


def test_the_threshold_is_the_tolerance_limit_of_the_bad_masks():
    """Of 29, 46 and 61 the first, second and third highest are the limit of 90 % with 95 %."""
    for n, rank in ((29, 29), (46, 45), (61, 59)):
        bad = np.linspace(0.61, 0.8, n)
        found = choose_threshold(of(bad, [0.9]), TrustParameters())
        assert (bad < found).sum() == rank, n


def test_few_bad_masks_have_their_quantile_so_that_none_decides_alone():
    found = choose_threshold(of([0.3] * 9 + [0.97], [0.9] * 50), TrustParameters())
    assert found == 0.6
    bad = np.linspace(0.61, 0.8, 28)
    assert choose_threshold(of(bad, [0.9]), TrustParameters()) == np.quantile(bad, 0.9)


def test_for_its_confidence_the_threshold_rejects_no_more_than_a_tenth_of_the_others():
    good = np.linspace(0.7, 0.99, 100)
    found = choose_threshold(of([0.3] * 28 + [0.97], good), TrustParameters())
    assert found == np.quantile(good, 0.1)


def test_without_bad_masks_or_with_low_ones_the_threshold_is_the_usable_dice():
    assert choose_threshold(of([], [0.9]), TrustParameters()) == 0.6
    assert choose_threshold(of([0.1] * 40, [0.9]), TrustParameters()) == 0.6


def test_the_threshold_catches_the_wanted_share_of_other_masks_nineteen_times_in_twenty():
    rng = np.random.default_rng(3)
    caught = [
        norm.cdf(choose_threshold(of(rng.normal(3.0, 1.0, 100)), TrustParameters()), 3.0, 1.0)
        for _ in range(1000)
    ]
    assert 0.93 < np.mean(np.array(caught) >= 0.9) < 0.99
    assert np.mean(caught) < 0.97  # and not by rejecting all


def test_every_verdict_has_a_reason_that_fits_it():
    evidence, agreement = study(informative=True)
    model = TrustModel.fit(evidence, agreement, ON, PARAMETERS)
    judged = model.judge(features_of(*study(informative=True, seed=5)))
    for row in judged.to_dict("records"):
        fine = "like images of the calibration" in row["reasons"]
        assert fine == (row["verdict"] == "trust"), row


def test_fitting_twice_gives_the_same_and_an_identity_that_knows_the_data():
    evidence, agreement = study(informative=True)
    first, second = (TrustModel.fit(evidence, agreement, ON, PARAMETERS) for _ in range(2))
    features = features_of(evidence, agreement)
    pd.testing.assert_frame_equal(first.judge(features), second.judge(features))
    assert first.identity == second.identity
    other = TrustModel.fit(evidence.assign(dice=0.5), agreement, ON, PARAMETERS)
    assert other.identity != first.identity


def test_too_few_conditions_are_refused_with_the_remedy():
    evidence, agreement = study(informative=True)
    few = evidence["test_split"].isin(["c0", "c1"])
    with pytest.raises(ValueError, match="at least 3 image sets and 3 networks, found 2 and 6"):
        TrustModel.fit(evidence[few], agreement, ON, PARAMETERS)


def test_evidence_without_all_of_its_networks_is_refused(tmp_path):
    """Those that are missing could not be left out of their own condition."""
    for name, table in zip(("evidence", "agreement"), study(informative=True), strict=True):
        table.to_parquet(tmp_path / f"{name}.parquet")
    networks = {name: network_set(name) for name in CONDITIONS}
    assert load_trust(tmp_path, networks, PARAMETERS).identity
    del networks["c2"]
    with pytest.raises(ValueError, match=r"1 networks that are not given \(c2\).*06_models"):
        load_trust(tmp_path, networks, PARAMETERS)


def test_few_masks_give_intervals_that_say_so():
    evidence, agreement = study(informative=True, micrographs=1)
    few = evidence["test_split"].isin(CONDITIONS[:3]) & evidence["network"].isin(CONDITIONS[:3])
    model = TrustModel.fit(evidence[few], agreement, {n: [n] for n in CONDITIONS[:3]}, PARAMETERS)
    judged = model.judge(features_of(evidence, agreement))
    assert (judged["low"] == 0).all()
    assert (judged["high"] == 1).all()


def test_features_are_complete_and_the_jury_knows_others_only():
    evidence, agreement = study(informative=True)
    features = features_of(evidence, agreement, ["c5"])
    assert set(FEATURES) <= set(features)
    assert not features[list(FEATURES)].isna().any(axis=None)
    assert "c5" not in set(features["network"])
    changed = agreement.assign(dice=agreement["dice"].where(agreement["juror"] != "c5", 0.0))
    pd.testing.assert_frame_equal(features, features_of(evidence, changed, ["c5"]))


def rows(jury, dice, **other):
    """Features of masks with such a jury, all else as noise says."""
    rng = np.random.default_rng(len(jury))
    table = pd.DataFrame({name: rng.uniform(0, 1, len(jury)) for name in FEATURES})
    for name in ("jury_mean", "jury_median", "jury_best", "jury_upper"):
        table[name] = jury
    return table.assign(dice=dice, **other)


def test_where_few_masks_are_bad_the_word_of_the_jury_stands():
    """A forest alone takes the mean of its leaves: 6 bad of 300 would be predicted too high."""
    rng = np.random.default_rng(0)
    jury = np.r_[rng.uniform(0.85, 1.0, 294), rng.uniform(0.1, 0.5, 6)]
    dice = np.clip(jury + rng.normal(0, 0.02, 300), 0, 1)
    predictor = Predictor.fit(rows(jury, dice), PARAMETERS)
    predicted, spread = predictor.predict(rows(np.array([0.15, 0.3, 0.95]), 0.0))
    assert predicted[0] < 0.3
    assert predicted[1] < 0.5
    assert predicted[2] > 0.85
    assert (spread > 0).all()
    assert ((predicted >= 0) & (predicted <= 1)).all()


def test_what_the_jury_gets_wrong_is_learned_from_all_evidence():
    """Where all networks err alike they agree; an image that gives it away is believed."""
    rng = np.random.default_rng(1)
    jury = rng.uniform(0.7, 1.0, 400)
    noise = rng.uniform(0, 1, 400)
    dice = np.where(noise > 0.7, 0.3, jury)
    predictor = Predictor.fit(rows(jury, dice, noise=noise), PARAMETERS)
    predicted, _ = predictor.predict(rows(np.full(2, 0.9), 0.0, noise=np.array([0.1, 0.9])))
    assert predicted[0] > 0.8
    assert predicted[1] < 0.5


def test_without_a_jury_nothing_is_made_up():
    table = rows(np.linspace(0, 1, 50), np.linspace(0, 1, 50))
    unknown = table.head(3).assign(jury_mean=np.nan, jury_best=np.nan, jury_upper=np.nan)
    predicted, _ = Predictor.fit(table, PARAMETERS).predict(unknown)
    assert np.isfinite(predicted).all()
    assert (predicted < 0.4).all()
