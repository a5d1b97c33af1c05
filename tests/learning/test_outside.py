"""Masks made elsewhere: what is said of them holds, and nothing wrong is trusted."""

from dataclasses import replace

import numpy as np
import pytest
from tests.learning.test_segmentation import Judge, field, network_set

import temshift
from temshift.catalog.boxed import BOX_NOTE, boxed_networks, boxed_trust
from temshift.config.box import RandomExposures
from temshift.config.deployment import DeploymentParameters
from temshift.config.simulation import SpecimenParameters, SupportParameters
from temshift.config.trust import TrustParameters
from temshift.learning.evidence import pairwise_dice
from temshift.learning.outside import dice_bounds, judge_outside
from temshift.learning.segmentation import Segmenter, plan_work
from temshift.microscopy.mask_values import as_particles
from temshift.microscopy.randomised import RandomField, draw_condition, simulate_field, take
from temshift.study.sizes import outline_error


@pytest.mark.parametrize("seed", range(20))
def test_the_bounds_hold_for_any_three_masks(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((200, 200)) < rng.uniform(0.05, 0.9)
    flips = rng.random((2, 1, 1)) ** 2
    drawn, mask = truth ^ (rng.random((2, 200, 200)) < flips)
    dice = pairwise_dice(np.stack([mask, drawn, truth]))
    own = dice[1, 2]
    low, high = dice_bounds(dice[0, 1], max(own - 0.05, 0.0), min(own + 0.05, 1.0))
    assert low - 1e-4 <= dice[0, 2] <= high + 1e-4


def test_numbers_are_particles_and_grey_levels_are_none():
    numbered = np.zeros((60, 60), int)
    numbered[5:20, 5:20], numbered[5:20, 20:40], numbered[40:50, 40:50] = 1, 2, 3
    assert np.array_equal(as_particles(numbered), numbered > 0)
    assert np.array_equal(as_particles(255 * (numbered > 0)), numbered > 0)
    assert np.array_equal(as_particles(numbered > 0), numbered > 0)
    assert not as_particles(np.zeros((60, 60))).any()
    with pytest.raises(ValueError, match=r"grey levels.*binarise it"):
        as_particles(field().astype(np.uint8))
    with pytest.raises(ValueError, match=r"shape \(H, W\)"):
        as_particles(np.ones((5, 5, 3)))
    with pytest.raises(ValueError, match="numbers for particles"):
        as_particles(np.full((5, 5), np.nan))


NOISE = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (field().astype(np.float32), "no whole number"),
        (NOISE.random((100, 100)), "no whole number"),
        (np.linspace(0, 1, 6).repeat(600).reshape(60, 60), "0.2, no whole number"),
        (field().astype(np.float32) - 200, "a negative number"),
        (NOISE.integers(-9, 0, (60, 60)), "a negative number"),
        (NOISE.integers(0, 65536, (100, 100)) * (np.eye(100) == 0), "values in 10000 pixels"),
        (1 + (field() > 150), "2 values, but no 0"),
    ],
)
def test_grey_levels_of_any_kind_are_no_mask(image, found):
    with pytest.raises(ValueError, match=f"this one has .*{found}.*grey levels.*binarise it"):
        as_particles(image)


NETWORK = {
    **{"network": "a", "predicted_dice": 0.92, "low": 0.85, "high": 0.97, "novelty": 0.4},
    "verdict": "trust",
}


def judge(mask, drawn, **changes):
    return judge_outside(mask, {**NETWORK, **changes}, {"a": drawn, "b": drawn}, drawn, 0.6)


def test_a_mask_is_believed_as_far_as_the_network_that_agrees():
    drawn = field() > 150
    assert judge(drawn, drawn)["verdict"] == "trust"
    assert judge(drawn, drawn)["low"] == 0.85
    assert judge(~drawn, drawn)["verdict"] == "do not trust"
    assert judge(np.zeros_like(drawn), drawn)["verdict"] == "do not trust"
    assert judge(drawn, drawn, novelty=1.2)["verdict"] == "check"
    assert judge(~drawn, drawn, novelty=1.2)["verdict"] == "check"
    unsure = judge(drawn, drawn, verdict="check")  # such as one that fills the field
    assert unsure["verdict"] == "check"
    assert "the mask of a is not trusted" in unsure["reasons"]
    lost = {"predicted_dice": 0.1, "low": 0.0, "high": 0.5}
    assert judge(~drawn, drawn, **lost)["verdict"] == "check", "it may be right where they are not"
    assert "not sure" in judge(~drawn, drawn, **lost)["reasons"]


@pytest.fixture(scope="module")
def gold():
    """Return simulated micrographs of gold, 0.03 nm a pixel, and where the gold is."""
    film = SupportParameters(composition={"C": 1}, atoms_per_A3=0.1, thickness_nm=(5.0, 5.0))
    found = []
    for number, diameter_nm in enumerate((4.0, 5.0)):
        specimen = SpecimenParameters(
            material="Au",
            diameter_nm=diameter_nm,
            support="carbon",
            particles=(3, 3),
            faceted=1.0,
        )
        wave = simulate_field(RandomField("gold", specimen, film, 14.0, 420, 3 + number))
        exposures = RandomExposures(uncorrected=0, bars=0, pictures=0, opaque=0)
        for i, dose in enumerate((300.0, 600.0)):
            drawn = draw_condition(exposures, 1, f"g{number}", i)
            condition = replace(drawn, pixel_size_nm=0.03, dose_e_per_A2=dose)
            image, label, _ = take(wave, condition)
            found.append((image, label == 1))
    return found


@pytest.fixture(scope="module")
def judged(gold):
    """Return what the network in the box says of true and of wrong masks, by their kind."""
    segmenter = Segmenter(
        boxed_networks(), DeploymentParameters(), boxed_trust(TrustParameters(trees=50)), "cpu"
    )
    found = []
    for image, truth in gold:
        noise = np.random.default_rng(1).random(truth.shape)
        masks = {
            "true": truth,
            "shifted": np.roll(truth, (60, 45), (0, 1)),
            "empty": np.zeros_like(truth),
            "full": np.ones_like(truth),
            "inverted": ~truth,
            "turned": np.ascontiguousarray(truth[::-1, ::-1]),
            "noise": noise < truth.mean(),
        }
        found.append((truth, masks, segmenter.segment(image, 0.03, masks=masks)))
    return found


def test_a_wrong_mask_is_never_trusted_and_a_true_one_never_refused(judged):
    for truth, masks, result in judged:
        verdicts = {name: own.judgement["verdict"] for name, own in result.outside.items()}
        assert verdicts.pop("true") != "do not trust"
        assert verdicts["empty"] == "do not trust"
        for name, verdict in verdicts.items():
            if pairwise_dice(np.stack([masks[name], truth]))[0, 1] < 0.6:
                assert verdict != "trust", name
    verdicts = [result.outside["true"].judgement["verdict"] for *_, result in judged]
    assert "trust" in verdicts, "and it is no judge that trusts nothing"
    inverted = [result.outside["inverted"].judgement["verdict"] for *_, result in judged]
    assert "do not trust" in inverted, "nor one that refuses nothing"


def test_the_interval_holds_the_true_dice_and_the_table_names_the_masks(judged):
    for truth, masks, result in judged:
        for name, own in result.outside.items():
            if name == "empty":
                continue
            dice = pairwise_dice(np.stack([masks[name], truth]))[0, 1]
            assert own.judgement["low"] - 1e-3 <= dice <= own.judgement["high"] + 1e-3, name
        rows = result.networks.set_index("network")
        assert set(rows.index) == {"box", *(f"mask: {name}" for name in masks)}
        assert rows.loc["mask: true", "verdict"] == result.outside["true"].judgement["verdict"]


def test_sizes_are_measured_as_those_of_a_network(judged):
    from temshift.microscopy.particles import measure_particles

    truth, _, result = judged[0]
    own = result.outside["true"]
    expected, _ = measure_particles(truth.astype(np.uint8), None, 0.03, 0.8, 1)
    whole = ~own.particles["touches_edge"]
    assert own.sizes["n_particles"] == whole.sum() > 0
    found = own.particles["equivalent_diameter_nm"].sort_values().to_numpy()
    assert found[-1] == pytest.approx(expected["equivalent_diameter_nm"].max(), rel=0.01)
    assert own.particles["certainty"].isna().all(), "nobody said how sure it is"
    assert np.isnan(own.sizes["low"]), "one mask has no folds that differ"


def test_the_function_judges_a_mask(gold, judged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, truth = gold[0]
    numbered = np.where(truth, 7, 0)
    own = temshift.judge_mask(image, numbered, pixel_size_nm=0.03, device="cpu")
    assert own.network == "mask: mask"
    assert own.judgement["verdict"] in ("trust", "check")
    expected = dict(judged[0][2].outside["true"].sizes)
    share = outline_error(own.judgement["predicted_dice"])  # the two forests are not of a size
    expected["error_outline"] = share * own.sizes["mean"]
    assert own.sizes == pytest.approx(expected, nan_ok=True)
    assert BOX_NOTE in own.notes, "what is said of the micrograph is said of the mask"
    with pytest.raises(ValueError, match=r"neither cut nor resampled"):
        temshift.judge_mask(image, numbered[1:], pixel_size_nm=0.03, device="cpu")


def test_without_a_study_there_is_an_agreement_but_no_dice():
    image = field()
    found = Segmenter({"a": network_set()}).segment(image, 0.1, masks={"b.png": image > 150})
    own = found.outside["b.png"]
    assert own.judgement["verdict"] == "not judged"
    assert np.isnan(own.judgement["predicted_dice"])
    assert "its Dice with the mask of a, not judged either: 1.00" in own.judgement["reasons"]


def test_the_drawn_mask_and_its_judgement_are_the_same_with_and_without_others():
    networks = {name: network_set(name) for name in "abc"}
    segmenter = Segmenter(networks, trust=Judge(), device="cpu")
    segmenter.trust.parameters = TrustParameters()
    image = field()
    image[120:] = 5000
    alone = segmenter.segment(image, 0.1)
    found = segmenter.segment(image, 0.1, masks={"m": alone.mask})
    assert np.array_equal(found.mask, alone.mask)
    assert found.judgement == alone.judgement
    assert found.outside["m"].judgement["low"] == pytest.approx(0.8, abs=0.05)
    barred = Segmenter(networks, DeploymentParameters(bar_px=30), segmenter.trust, "cpu")
    whole = barred.segment(image, 0.1, masks={"m": alone.mask, "n": alone.mask[:120]})
    assert whole.outside["m"].mask.shape == (120, 131)
    assert np.array_equal(whole.outside["m"].mask, whole.outside["n"].mask)


class Masks:
    def __init__(self, **masks):
        self.masks = masks

    def others(self, folder, paths):
        return paths

    def of(self, paths):
        return {path: list(self.masks) for path in paths}

    def sha256(self, name):
        return f"{hash(self.masks[name].tobytes())}"

    def read(self, name):
        return self.masks[name]


class Store:
    folder = None

    def paths(self):
        return ["a.tif"]

    def sha256(self, path):
        return path

    def read(self, path):
        from temshift.microscopy.micrograph import Micrograph

        return Micrograph(field(), 0.1)


def test_a_mask_that_does_not_fit_is_noted_and_another_one_makes_it_again():
    segmenter = Segmenter({"a": network_set()})
    good = field() > 150
    (work,) = plan_work(Store(), segmenter, "", Masks(good=good, cut=good[1:]))
    _, result = work.run()
    assert list(result.outside) == ["good"]
    (note,) = [note for note in result.notes if "cut" in note]
    assert "149 × 131 px, its image 150 × 131" in note
    (plain,) = plan_work(Store(), segmenter)
    (other,) = plan_work(Store(), segmenter, "", Masks(good=~good, cut=good[1:]))
    assert len({work.identity, plain.identity, other.identity}) == 3
