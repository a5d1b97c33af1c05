import copy
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests import synthetic_study as synthetic

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.statistics import (
    FoldSums,
    compare_robust_training,
    compare_with_in_domain,
    dice_intervals,
    dice_matrices,
    difference_intervals,
    find_confounds,
    fold_sums,
    splits_table,
)

PARAMETERS = ReportingParameters()


def table(*rows):
    return pd.DataFrame([synthetic.result_row(**row) for row in rows])


def nested(values, folds):
    """One group a column, tested by one of the folds in turn."""
    fold = np.arange(len(values)) % folds
    weights = np.zeros((folds, len(values)))
    weights[fold, np.arange(len(values))] = 1
    return FoldSums(weights * values, weights, [f"g{i}" for i in range(len(values))])


# ------------------------------------------------------------------ one cell
def test_grouped_dice_is_the_mean_over_folds_of_means_over_micrographs():
    rows = table(
        {"fold": 0, "micrograph_id": "a", "dice": 0.9},
        {"fold": 0, "micrograph_id": "b", "dice": 0.7},
        {"fold": 1, "micrograph_id": "c", "dice": 0.5},
    )
    cell = fold_sums(rows)
    assert cell.nested
    assert cell.groups == ["a", "b", "c"]
    assert cell.mean == pytest.approx((0.8 + 0.5) / 2, abs=1e-4)


def test_published_dice_weighs_patches_not_micrographs():
    rows = table(
        {"protocol": "published", "micrograph_id": "a", "n_patches": 1, "dice": 0.9},
        {"protocol": "published", "micrograph_id": "b", "n_patches": 3, "dice": 0.5},
    )
    assert fold_sums(rows).mean == pytest.approx((0.9 + 3 * 0.5) / 4)


def test_groups_are_the_units_whatever_the_specimens():
    rows = table(
        {"micrograph_id": "a", "specimen_id": "s", "group": "monday", "dice": 0.9},
        {"micrograph_id": "b", "specimen_id": "t", "group": "monday", "dice": 0.7},
        {"micrograph_id": "c", "specimen_id": "u", "group": "tuesday", "dice": 0.5},
    )
    cell = fold_sums(rows)
    assert cell.groups == ["monday", "tuesday"]
    assert cell.values[0] == pytest.approx([0.8, 0.5], abs=1e-4)


def results_of_sessions(spread):
    """Six sessions, two a fold, of four specimens each; sessions differ by ``spread``."""
    rng = np.random.default_rng(3)
    difficulty = rng.normal(0, spread, 6)
    return table(
        *(
            {
                "network": network,
                "test_split": split,
                "fold": session % 3,
                "micrograph_id": f"{split}/{session}.{i}",
                "specimen_id": f"specimen {session}.{i}",
                "in_domain": network == split,
                "dice": dice + difficulty[session] * (1 + (network != split)) + rng.normal(0, 0.01),
            }
            for (network, split), dice in {
                ("mid", "silver"): 0.7,
                ("silver", "silver"): 0.8,
            }.items()
            for session in range(6)
            for i in range(4)
        )
    )


@pytest.mark.parametrize("published", [False, True])
def test_intervals_hold_the_scatter_of_sessions(published):
    """In folds by themselves; where all folds test all of them, only if they are the groups."""
    by_specimen, plan = results_of_sessions(0.05), synthetic.plan()
    if published:
        folds = [by_specimen.assign(fold=fold, protocol="published") for fold in range(5)]
        by_specimen = pd.concat(folds)
    sessions = by_specimen["specimen_id"].str.extract(r"(\d)\.")[0]
    by_session = by_specimen.assign(group="day " + sessions)
    cells, gaps = {}, {}
    for n, results in ((24, by_specimen), (6, by_session)):
        matrix = dice_matrices(results, plan, PARAMETERS).set_index("network")
        gap = compare_with_in_domain(results, plan, PARAMETERS)
        cells[n], gaps[n] = matrix.loc["mid"], gap.iloc[0]
        assert cells[n]["n_groups"] == gaps[n]["n_groups"] == n
    assert cells[6]["dice"] == pytest.approx(cells[24]["dice"])
    for found in (cells, gaps):
        width = {n: row["high"] - row["low"] for n, row in found.items()}
        if published:
            assert width[6] > 1.2 * width[24]
        else:
            assert width[6] == pytest.approx(width[24])


def test_no_results_are_an_error():
    with pytest.raises(ValueError, match="no results"):
        fold_sums(table({"dice": 1.0}).iloc[:0])


# ------------------------------------------------------------------ intervals
def dice_of(cell, confidence=0.95):
    return dice_intervals([cell], confidence)[0]


def crossed(values):
    return FoldSums(values, np.ones(values.shape), [f"g{i}" for i in range(values.shape[1])])


def test_interval_of_equal_values_has_no_width():
    interval = dice_of(nested(np.full(6, 0.5), 3))
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_network_or_one_group_has_no_interval():
    for cell in (nested(np.array([0.8, 0.9]), 1), crossed(np.array([[0.8], [0.8]]))):
        interval = dice_of(cell)
        assert np.isnan([interval.low, interval.high, interval.p_value]).all()
        assert np.isfinite(interval.estimate)


def test_a_cell_alone_has_students_t_over_its_folds(rng):
    cell = nested(rng.normal(0.8, 0.05, 9), 3)
    interval = dice_of(cell)
    expected = stats.t.interval(0.95, 2, cell.mean, stats.sem(cell.fold_means))
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert interval.df == pytest.approx(2)


def test_cells_lend_each_other_their_scatter_if_they_have_as_many_folds(rng):
    cells = [nested(rng.normal(0.8, 0.05, 6), 3) for _ in range(12)]
    together = dice_intervals([*cells, nested(rng.normal(0.8, 0.05, 6), 6)], 0.95)
    assert together[0].df > 4
    assert together[-1].df == pytest.approx(5)


def test_networks_tested_on_all_specimens_have_the_scatter_of_specimens_too(rng):
    hard = rng.normal(0, 0.1, 12)
    interval = dice_of(crossed(0.8 + np.tile(hard, (5, 1))))
    assert interval.standard_error == pytest.approx(stats.sem(hard), rel=1e-6)


def test_a_wider_confidence_gives_a_wider_interval(rng):
    cell = nested(rng.normal(0.8, 0.05, 12), 3)
    narrow, wide = dice_of(cell, 0.6), dice_of(cell, 0.95)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_intervals_stay_within_what_is_possible():
    cells = nested(np.array([0.99, 0.2, 0.9]), 3), nested(np.array([0.0, 0.95, 0.02]), 3)
    for interval in dice_intervals(cells, 0.95):
        assert 0 <= interval.low < interval.high <= 1
    gap = difference_intervals([cells], 0.95)[0]
    assert (gap.low, gap.high) == (-1, 1)


def test_pairing_removes_what_both_networks_share(rng):
    difficulty = rng.normal(0, 0.1, 9)
    first, second = nested(0.9 + difficulty, 3), nested(0.7 + difficulty, 3)
    gap = difference_intervals([(first, second)], 0.95)[0]
    assert gap.estimate == pytest.approx(0.2)
    assert gap.high - gap.low < 1e-9  # while each by itself varies
    alone = dice_of(first)
    assert alone.high - alone.low > 0.1


@pytest.mark.parametrize("swap", [False, True])
def test_networks_tested_in_different_ways_are_paired_by_group_too(rng, swap):
    difficulty = rng.normal(0, 0.1, 9)
    pair = nested(0.9 + difficulty, 3), crossed(np.tile(0.7 + difficulty, (4, 1)))
    gap = difference_intervals([pair[::-1] if swap else pair], 0.95)[0]
    expected = -0.2 if swap else 0.2
    assert (gap.estimate, gap.low, gap.high) == pytest.approx((expected,) * 3)


def test_different_micrographs_cannot_be_compared():
    first, second = nested(np.ones(3), 3), nested(np.ones(2), 1)
    with pytest.raises(
        ValueError, match=r"same micrographs; 1 were tested by one of them only.*g2"
    ):
        difference_intervals([(first, second)], 0.95)


# ------------------------------------------------------------------ tables
@pytest.fixture(scope="module")
def results():
    return synthetic.results_table()


def test_matrix_has_every_cell_of_every_study(results):
    matrix = dice_matrices(results, synthetic.plan(), PARAMETERS)
    assert len(matrix) == 4 * 3 + 2 * 2
    cell = matrix[(matrix["network"] == "high") & (matrix["test_split"] == "low")].iloc[0]
    assert cell["dice"] == pytest.approx(0.46, abs=0.03)
    assert cell["low"] < cell["dice"] < cell["high"]
    assert (cell["n_folds"], cell["n_groups"], cell["n_micrographs"]) == (3, 6, 6)
    assert not cell["in_domain"]
    shared = matrix[(matrix["network"] == "mid") & (matrix["test_split"] == "mid")]
    assert shared["study"].tolist() == ["dose", "material"]
    assert len(set(shared["low"])) == 1  # the same cell in two studies has one interval


def test_gaps_and_verdicts(results):
    gaps = compare_with_in_domain(results, synthetic.plan(), PARAMETERS)
    assert (gaps["network"] != gaps["test_split"]).all()
    at = gaps.set_index(["study", "network", "test_split"])
    worst = at.loc[("dose", "high", "low")]
    assert worst["gap"] == pytest.approx(worst["reference_dice"] - worst["dice"])
    assert worst["gap"] == pytest.approx(0.39, abs=0.04)
    assert (worst["verdict"], worst["reference"]) == ("breaks", "low")
    assert worst["p_value"] < worst["p_holm"] < 0.01
    assert worst["gap"] - worst["low"] == pytest.approx(
        stats.t.ppf(0.975, worst["df"]) * worst["standard_error"]
    )
    assert np.isnan(worst["folds_to_decide"])  # decided
    assert at.loc[("dose", "high_noise", "low"), "verdict"] != "breaks"
    assert at.loc[("material", "mid", "silver"), "point_verdict"] == "robust"


def test_p_values_are_corrected_within_a_study(results):
    gaps = compare_with_in_domain(results, synthetic.plan(), PARAMETERS)
    material = gaps[gaps["study"] == "material"]
    assert material["p_holm"].min() == pytest.approx(min(1, 2 * material["p_value"].min()))
    dose = gaps[gaps["study"] == "dose"]
    assert len(dose) == 9  # six shifts, and a further network on three sets
    assert dose["p_holm"].min() == pytest.approx(9 * dose["p_value"].min())


def test_the_same_gap_in_two_studies_has_one_interval(results):
    parameters = copy.deepcopy(synthetic.PARAMETERS)
    parameters["studies"]["again"] = {"varies": "material", "splits": ["low", "mid"]}
    gaps = compare_with_in_domain(results, StudyPlan.from_parameters(parameters), PARAMETERS)
    same = gaps[(gaps["network"] == "low") & (gaps["test_split"] == "mid")]
    assert same["study"].tolist() == ["dose", "again"]
    assert same["low"].nunique() == same["df"].nunique() == 1


def test_a_run_of_ten_sets_takes_seconds():
    sets = [f"set{i}" for i in range(10)]
    parameters = {
        "splits": {s: {"where": {"material": "Au"}} for s in sets},
        "studies": {"all": {"varies": "material", "splits": sets}},
    }
    results = synthetic.results_table(
        {(a, b): 0.8 for a in sets for b in sets},
        groups=40,
        folds=6,
        train_on=lambda network: [network],
    )
    plan = StudyPlan.from_parameters(parameters)
    start = time.perf_counter()
    assert len(dice_matrices(results, plan, PARAMETERS)) == 100
    assert len(compare_with_in_domain(results, plan, PARAMETERS)) == 90
    assert time.perf_counter() - start < 10


def test_row_order_does_not_matter(results):
    shuffled = results.sample(frac=1, random_state=1)
    for function in (dice_matrices, compare_with_in_domain):
        pd.testing.assert_frame_equal(
            function(results, synthetic.plan(), PARAMETERS),
            function(shuffled, synthetic.plan(), PARAMETERS),
        )


def test_published_protocol_is_compared_with_itself():
    both = pd.concat(
        [synthetic.results_table(protocol=protocol) for protocol in ("grouped", "published")]
    )
    gaps = compare_with_in_domain(both, synthetic.plan(), PARAMETERS)
    assert (gaps["protocol"] == gaps["reference_protocol"]).all()
    assert set(gaps["protocol"]) == {"grouped", "published"}
    worst = gaps[(gaps["network"] == "high") & (gaps["test_split"] == "low")]
    assert worst["gap"].tolist() == pytest.approx([0.39, 0.39], abs=0.05)


def test_imported_network_is_compared_with_the_protocol_at_hand():
    results = synthetic.results_table()
    imported = synthetic.results_table(
        {("outside", s): 0.6 for s in ("low", "mid", "high")},
        protocol="published",
        train_on=lambda network: ["mid"],
    )
    parameters = {
        **synthetic.PARAMETERS,
        "studies": {
            "dose": {
                "varies": "dose_e_per_A2",
                "splits": ["low", "mid", "high"],
                "networks": ["outside"],
            }
        },
        "networks": {"outside": {"train_on": ["mid"], "imported": True}},
    }
    plan = StudyPlan.from_parameters(parameters)
    everything = pd.concat([results, imported], ignore_index=True)
    gaps = compare_with_in_domain(everything, plan, PARAMETERS)
    row = gaps[(gaps["network"] == "outside") & (gaps["test_split"] == "low")].iloc[0]
    assert (row["protocol"], row["reference_protocol"]) == ("published", "grouped")
    assert row["gap"] == pytest.approx(0.25, abs=0.04)


def test_gain_of_robust_training(results):
    gains = compare_robust_training(results, synthetic.plan(), PARAMETERS)
    assert set(gains["network"]) == {"high_noise"}
    assert set(gains["baseline"]) == {"high"}
    at = gains.set_index("test_split")
    assert at.loc["low", "gain"] == pytest.approx(0.34, abs=0.04)
    assert at.loc["high", "gain"] == pytest.approx(-0.01, abs=0.03)


# ------------------------------------------------------------------ metadata
def micrographs(**changes):
    tables = {split: synthetic.micrographs_table(split) for split in synthetic.METADATA}
    for split, columns in changes.items():
        tables[split] = tables[split].assign(**columns)
    return tables


def named(confounds, study):
    return set(confounds.loc[confounds["study"] == study, "column"])


def test_confounds_are_named():
    confounds = find_confounds(synthetic.plan(), micrographs())
    assert named(confounds, "dose") == set()
    assert named(confounds, "material") == {"session"}  # 421 and 423 e/Å² are the same setting
    values = confounds.set_index("split")["value"].to_dict()
    assert values == {"mid": "2024-01-15", "silver": "2022-02-02"}


def test_missing_and_overlapping_values():
    confounds = find_confounds(
        synthetic.plan(),
        micrographs(
            silver={"pixel_size_nm": np.nan, "defocus_A": [0.0, 60, 120, 30, 20, 10]},
            mid={"defocus_A": [10.0, 50, 90, 30, 20, 10], "shape": ["sphere"] * 5 + ["oblong"]},
        ),
    )
    assert named(confounds, "material") == {"session", "pixel_size_nm", "shape"}
    given = confounds[(confounds["study"] == "material") & (confounds["column"] == "pixel_size_nm")]
    given = given.set_index("split")
    assert given.loc["mid", ["value", "min", "max"]].tolist() == ["", 0.02, 0.02]
    assert given.loc["silver", ["min", "max"]].isna().all()


def test_split_table(results):
    plan = synthetic.plan()
    matrix = dice_matrices(results, plan, PARAMETERS)
    tables = micrographs(silver={"pixel_size_nm": np.nan})
    rows = splits_table(results, matrix, plan, tables).set_index("split")
    assert rows.index.tolist() == ["low", "mid", "high", "silver"]
    assert rows.loc["low", ["n_micrographs", "n_groups", "n_patches"]].tolist() == [6, 6, 24]
    assert rows["labelled_share"].to_numpy() == pytest.approx(50_000 / (4 * 512**2))
    assert np.isnan(rows.loc["silver", "pixel_size_nm_min"])
    assert rows.loc["low", ["dose_e_per_A2_min", "dose_e_per_A2_max"]].tolist() == [80, 80]
    assert rows.loc["low", "shape"] == "sphere"
    own = matrix[(matrix["network"] == "low") & (matrix["test_split"] == "low")].iloc[0]
    assert (
        rows.loc["low", ["dice", "low", "high"]].tolist() == own[["dice", "low", "high"]].tolist()
    )
