import numpy as np
import pandas as pd
import pytest
from tests import synthetic_study as synthetic

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.study.statistics import (
    FoldSums,
    Interval,
    bootstrap_dice,
    bootstrap_difference,
    classify,
    compare_robust_training,
    compare_with_in_domain,
    dice_matrices,
    find_confounds,
    fold_sums,
    sign_flip_p_value,
    splits_table,
)

PARAMETERS = ReportingParameters(bootstrap=400)


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
    assert cell.group_means == pytest.approx([0.8, 0.5], abs=1e-4)


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


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_intervals_count_sessions_where_sessions_are_the_groups(spread):
    by_specimen, plan = results_of_sessions(spread), synthetic.plan()
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
        assert width[6] > width[24] * (1.2 if spread else 0.5)
    # of six units there are 64 sign patterns, whatever the number of specimens
    assert gaps[6]["p_value"] >= 2 / 64 > gaps[24]["p_value"]


def test_no_results_are_an_error():
    with pytest.raises(ValueError, match="no results"):
        fold_sums(table({"dice": 1.0}).iloc[:0])


# ------------------------------------------------------------------ intervals
def test_interval_of_equal_values_has_no_width():
    interval = bootstrap_dice(nested(np.full(6, 0.8), 3), PARAMETERS)
    assert interval == Interval(*[pytest.approx(0.8)] * 3)


def test_one_group_has_no_interval():
    interval = bootstrap_dice(nested(np.array([0.8]), 1), PARAMETERS)
    assert interval.estimate == 0.8
    assert np.isnan([interval.low, interval.high]).all()


def test_interval_repeats_with_the_seed_and_only_with_it(rng):
    cell = nested(rng.normal(0.8, 0.05, 9), 3)
    other = ReportingParameters(bootstrap=400, bootstrap_seed=8)
    assert bootstrap_dice(cell, PARAMETERS) == bootstrap_dice(cell, PARAMETERS)
    assert bootstrap_dice(cell, PARAMETERS) != bootstrap_dice(cell, other)


@pytest.mark.parametrize("crossed", [False, True])
def test_intervals_cover_the_truth(rng, crossed):
    """Six specimens, three folds, both varying: a plain percentile interval covers about 80 %."""
    covered = 0
    for _ in range(150):
        folds, groups = rng.normal(0, 0.02, 3), rng.normal(0.8, 0.03, 6)
        if crossed:
            cell = FoldSums(folds[:, None] + groups, np.ones((3, 6)), list("abcdef"))
        else:
            cell = nested(groups + folds[np.arange(6) % 3], 3)
        interval = bootstrap_dice(cell, PARAMETERS)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.88 <= covered / 150 <= 0.99


def test_a_wider_confidence_gives_a_wider_interval(rng):
    cell = nested(rng.normal(0.8, 0.05, 12), 3)
    narrow = bootstrap_dice(cell, ReportingParameters(bootstrap=2000, confidence=0.6))
    wide = bootstrap_dice(cell, ReportingParameters(bootstrap=2000, confidence=0.95))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_pairing_removes_what_both_networks_share(rng):
    difficulty = rng.normal(0, 0.1, 9)
    first, second = nested(0.9 + difficulty, 3), nested(0.7 + difficulty, 3)
    gap = bootstrap_difference(first, second, PARAMETERS)
    assert gap.estimate == pytest.approx(0.2)
    assert gap.high - gap.low < 1e-9  # while each by itself varies
    alone = bootstrap_dice(first, PARAMETERS)
    assert alone.high - alone.low > 0.1


def test_crossed_networks_are_paired_by_group_too(rng):
    difficulty = rng.normal(0, 0.1, 9)
    crossed = FoldSums(
        np.tile(0.7 + difficulty, (3, 1)), np.ones((3, 9)), [f"g{i}" for i in range(9)]
    )
    gap = bootstrap_difference(nested(0.9 + difficulty, 1), crossed, PARAMETERS)
    assert (gap.estimate, gap.low, gap.high) == pytest.approx((0.2, 0.2, 0.2))


def test_different_micrographs_cannot_be_compared():
    first, second = nested(np.ones(3), 3), nested(np.ones(2), 1)
    with pytest.raises(
        ValueError, match=r"same micrographs; 1 were tested by one of them only.*g2"
    ):
        bootstrap_difference(first, second, PARAMETERS)


# ------------------------------------------------------------------ test and verdict
@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], 2 / 64),  # all of one sign: the smallest possible
        ([0.1, -0.1], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([3.0, 2.0, -1.0], 0.5),  # means at least as far from 0: ±(3+2-1), ±(3+2+1): 4 of 8
    ],
)
def test_sign_flips_worked_by_hand(differences, p):
    assert sign_flip_p_value(np.array(differences), 0) == pytest.approx(p)


def test_one_difference_gives_no_p_value():
    assert np.isnan(sign_flip_p_value(np.array([0.3]), 0))


def test_many_differences_are_sampled_reproducibly(rng):
    differences = rng.normal(0.5, 1, 40)
    assert sign_flip_p_value(differences, 3) == sign_flip_p_value(differences, 3)
    assert sign_flip_p_value(differences + 2, 3) < 0.001


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.02, "robust"),
        (0.04, 0.1, "degrades"),
        (0.16, 0.5, "breaks"),
        (0.01, 0.1, "robust or degrades"),
        (0.1, 0.3, "degrades or breaks"),
        (0.0, 0.4, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)
def test_verdict_needs_the_whole_interval(low, high, verdict):
    parameters = ReportingParameters(degrades_above=0.03, breaks_above=0.15)
    assert classify(Interval(0.2, low, high), parameters) == verdict


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
    assert worst["p_value"] == pytest.approx(2 / 64)
    assert at.loc[("dose", "high_noise", "low"), "verdict"] != "breaks"
    assert at.loc[("material", "mid", "silver"), "point_verdict"] == "robust"


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
