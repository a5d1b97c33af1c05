"""Transfer there and back: formulas worked by hand; equal networks have no asymmetry."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from tests import synthetic_study as synthetic

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.statistics import compare_with_in_domain
from temshift.study.transfer import TRANSFER_COLUMNS, transfer_table

SETS = ("a", "b", "c", "d")
PLAN = StudyPlan.from_parameters(
    {
        "splits": {s: {"where": {"dose_e_per_A2": 100 * i + 100}} for i, s in enumerate(SETS)},
        "studies": {"dose": {"varies": "dose_e_per_A2", "splits": list(SETS)}},
        "networks": {},
    }
)
REPORTING = ReportingParameters()


def study(rng, mean, folds=5, groups=20, protocol="grouped"):
    """Results of four networks on four sets, in each of which a specimen has its difficulty."""
    fold_of = np.arange(groups) % folds
    specimen = {s: rng.normal(0, 0.03, groups) for s in SETS}
    networks = {s: rng.normal(0, 0.015, folds) for s in SETS}
    tables = []
    for network in SETS:
        for split in SETS:
            luck = networks[network] + rng.normal(0, 0.01, folds)
            noise = rng.normal(0, 0.015, groups)
            dice = mean(network, split) + specimen[split] + luck[fold_of] + noise
            tables.append(
                pd.DataFrame(
                    {
                        **{"network": network, "test_split": split, "protocol": protocol},
                        **{"fold": fold_of, "group": [f"specimen {g}" for g in range(groups)]},
                        "micrograph_id": [f"{split}/{g}" for g in range(groups)],
                        **{"dice": dice, "patch_dice": dice, "n_patches": 4},
                        "in_domain": network == split,
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def with_seen(rng, results, by_heart, most=10):
    """Add the Dice of the next fold's network, which has seen the micrograph."""
    own = results["in_domain"] & (results["group"].str.split().str[1].astype(int) < most)
    luck = rng.normal(0, 0.015, 5)[(results["fold"] + 1) % 5]
    noise = rng.normal(0, 0.015, len(results))
    seen = results["dice"] + by_heart + luck + noise
    return results.assign(seen_dice=seen.where(own))


def row(table, first, second, **wanted):
    found = table[(table["train_on"] == first) & (table["test_split"] == second)]
    for column, value in wanted.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


DIFFICULTY = {"a": 0.0, "b": 0.15, "c": 0.3, "d": 0.45}


@pytest.fixture(scope="module")
def of_equal_networks():
    """Tables of 200 studies in which all networks are equal and the sets are not."""
    rng = np.random.default_rng(14)
    return [
        transfer_table(study(rng, lambda _, s: 0.9 - DIFFICULTY[s]), PLAN, REPORTING)
        for _ in range(200)
    ]


def test_of_equal_networks_no_direction_is_harder_however_unequal_the_sets(of_equal_networks):
    rows = pd.concat(of_equal_networks)
    pairs = rows[rows["train_on"] < rows["test_split"]]
    assert ((pairs["low"] <= 0) & (pairs["high"] >= 0)).mean() >= 0.93
    assert (pairs["direction"] != "not shown").mean() <= 0.05
    in_a_study = [(table["direction"] != "not shown").any() for table in of_equal_networks]
    assert np.mean(in_a_study) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_difference_of_two_g_ood_would_fail_that_null(of_equal_networks):
    called = []
    for table in of_equal_networks[:20]:
        for a, b in combinations(SETS, 2):
            there, back = row(table, a, b), row(table, b, a)
            called.append(there["g_ood_low"] - back["g_ood_high"] > 0)
    assert np.mean(called) > 0.9


def test_intervals_of_g_ood_hold_the_truth(of_equal_networks):
    rows = pd.concat(of_equal_networks)
    truth = rows["test_split"].map(DIFFICULTY) - rows["train_on"].map(DIFFICULTY)
    inside = (rows["g_ood_low"] <= truth) & (truth <= rows["g_ood_high"])
    assert 0.93 <= inside.mean() <= 0.99


@pytest.mark.parametrize(("by_heart", "least", "most"), [(0.0, 0.0, 0.07), (0.06, 0.9, 1.0)])
def test_what_is_known_by_heart_is_found_and_nothing_else(by_heart, least, most):
    """Of networks that know nothing by heart few intervals leave out 0, however hard the sets."""
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(60):
        results = with_seen(rng, study(rng, lambda _, s: 0.9 - DIFFICULTY[s]), by_heart)
        table = transfer_table(results, PLAN, REPORTING)
        rows.append(table.drop_duplicates("train_on"))
    found = pd.concat(rows)
    assert least <= (found["g_id_low"] > 0).mean() <= most
    assert (found["g_id_high"] < 0).mean() <= 0.05
    assert ((found["g_id_low"] <= by_heart) & (by_heart <= found["g_id_high"])).mean() >= 0.93
    assert found["g_id"].mean() == pytest.approx(by_heart, abs=0.005)


def test_g_id_by_hand(rng):
    results = with_seen(rng, study(rng, lambda n, s: 0.8), 0.05, most=20)
    measured = results[results["seen_dice"].notna()]
    difference = (measured["seen_dice"] - measured["dice"]).groupby(measured["network"]).mean()
    table = transfer_table(results, PLAN, REPORTING)
    for name, value in difference.items():
        own = table[table["train_on"] == name]
        assert own["g_id"].tolist() == pytest.approx([value] * 3)
        assert own["g_id_low"].nunique() == own["g_id_high"].nunique() == 1


def test_where_no_seen_micrograph_was_tested_there_is_no_g_id(rng):
    results = study(rng, lambda n, s: 0.8)
    for without in (results, results.assign(seen_dice=np.nan)):
        table = transfer_table(without, PLAN, REPORTING)
        assert table[["g_id", "g_id_low", "g_id_high"]].isna().all(axis=None)
        assert table["g_ood_low"].notna().all()


def test_a_harder_way_is_found_and_its_interval_holds_the_truth():
    def mean(network, split):
        return 0.9 - DIFFICULTY[split] - 0.2 * (network == "a" and split == "b")

    rng = np.random.default_rng(3)
    tables = [transfer_table(study(rng, mean), PLAN, REPORTING) for _ in range(40)]
    there = pd.DataFrame([row(table, "a", "b") for table in tables])
    back = pd.DataFrame([row(table, "b", "a") for table in tables])
    assert (there["direction"] == "harder").mean() > 0.95
    assert (back["direction"] == "easier").mean() > 0.95
    assert ((there["low"] <= 0.2) & (there["high"] >= 0.2)).mean() > 0.85


def test_the_formulas_by_hand(rng):
    results = study(rng, lambda n, s: 0.9 - DIFFICULTY[s] - 0.05 * (n != s))
    dice = results.groupby(["network", "test_split"])["dice"].mean()  # folds are equally large
    table = transfer_table(results, PLAN, REPORTING)
    assert tuple(table.columns) == TRANSFER_COLUMNS
    for a in SETS:
        for b in set(SETS) - {a}:
            found = row(table, a, b)
            assert found["own_dice"] == pytest.approx(dice[a, a])
            assert found["g_ood"] == pytest.approx(dice[a, a] - dice[a, b])
            asymmetry = (dice[b, b] - dice[a, b]) - (dice[a, a] - dice[b, a])
            assert found["asymmetry"] == pytest.approx(asymmetry)
            assert found["low"] < found["asymmetry"] < found["high"]


def test_the_gaps_are_those_of_the_table_of_gaps(rng):
    results = synthetic.results_table().assign(learned=True)
    reporting, plan = ReportingParameters(permutations=200), synthetic.plan()
    table = transfer_table(results, plan, reporting)
    gaps = compare_with_in_domain(results, plan, reporting)
    keys = ["study", "protocol", "network", "test_split"]
    known = gaps.set_index(keys)["gap"]
    ours = table.rename(columns={"train_on": "network"}).set_index(keys)["gap"]
    pd.testing.assert_series_equal(ours, known.loc[ours.index])
    assert "high_noise" not in set(table["train_on"])


def test_a_pair_is_one_comparison_with_one_interval(rng):
    table = transfer_table(study(rng, lambda n, s: 0.8), PLAN, REPORTING)
    for a, b in combinations(SETS, 2):
        there, back = row(table, a, b), row(table, b, a)
        assert there["asymmetry"] == pytest.approx(-back["asymmetry"])
        assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))
        assert there["p_holm"] == back["p_holm"]
    smallest = table["p_value"].min()
    assert table["p_holm"].min() == pytest.approx(min(6 * smallest, 1))  # six pairs, not twelve


def test_the_order_of_the_rows_changes_nothing(rng):
    results = study(rng, lambda n, s: 0.8 - DIFFICULTY[s] / 3)
    shuffled = results.sample(frac=1, random_state=1)
    once, again = (transfer_table(r, PLAN, REPORTING) for r in (results, shuffled))
    pd.testing.assert_frame_equal(once, again)


@pytest.mark.parametrize("case", ["one fold", "published"])
def test_without_independent_folds_there_are_estimates_only(rng, case):
    results = study(rng, lambda n, s: 0.8)
    if case == "one fold":
        results["fold"] = 0
    else:  # every fold is tested on all specimens of another set
        others = results[~results["in_domain"]]
        folds = [others.assign(fold=k, dice=others["dice"] + 0.001 * k) for k in range(5)]
        results = pd.concat([results[results["in_domain"]], *folds])
        results["patch_dice"], results["protocol"] = results["dice"], "published"
    table = transfer_table(results, PLAN, REPORTING)
    assert table[["g_ood", "asymmetry"]].notna().all(axis=None)
    assert table[["g_ood_low", "low", "high", "p_value", "p_holm"]].isna().all(axis=None)
    assert set(table["direction"]) == {""}


def test_where_the_way_back_is_missing_there_is_no_asymmetry(rng):
    results = study(rng, lambda n, s: 0.8)
    table = transfer_table(results[results["network"] != "d"], PLAN, REPORTING)
    to_d = table[table["test_split"] == "d"]
    assert len(to_d) == 3
    assert "d" not in set(table["train_on"])
    assert to_d["g_ood_low"].notna().all()
    assert to_d[["gap", "reverse_gap", "asymmetry", "p_holm"]].isna().all(axis=None)


def test_networks_with_the_same_predictions_are_alike_for_sure(rng):
    results = study(rng, lambda n, s: 0.8)
    one = results[results["network"] == "a"]
    results = pd.concat([one.assign(network=n, in_domain=one["test_split"] == n) for n in SETS])
    table = transfer_table(results, PLAN, REPORTING)
    assert (table["asymmetry"] == 0).all()
    assert (table["p_holm"] == 1).all()
    assert set(table["direction"]) == {"not shown"}


def test_no_results_give_an_empty_table(rng):
    table = transfer_table(study(rng, lambda n, s: 0.8).iloc[:0], PLAN, REPORTING)
    assert table.empty
    assert tuple(table.columns) == TRANSFER_COLUMNS
