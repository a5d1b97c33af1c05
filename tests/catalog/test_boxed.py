"""The network that comes with the package: it is there, small, whole, and modest."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import temshift
from temshift.catalog.boxed import (
    BOX_NOTE,
    LENT_NOTE,
    boxed_networks,
    boxed_trust,
    lent_trust,
)
from temshift.config.box import RandomExposures, RandomFields
from temshift.config.deployment import DeploymentParameters
from temshift.config.simulation import SpecimenParameters, SupportParameters
from temshift.config.trust import TrustParameters
from temshift.learning.network_set import NetworkSet, TrainedNetwork
from temshift.learning.segmentation import Segmenter
from temshift.learning.trust import TrustModel
from temshift.microscopy.randomised import (
    RandomField,
    draw_condition,
    draw_field,
    simulate_field,
    take,
)

PLACE = Path(temshift.__file__).parent / "data" / "box"


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(
        boxed_networks(), DeploymentParameters(), boxed_trust(TrustParameters(trees=50)), "cpu"
    )


@pytest.fixture(scope="module")
def gold() -> tuple[np.ndarray, np.ndarray]:
    """Return a simulated micrograph of gold on a film, 0.03 nm a pixel, and where the gold is."""
    specimen = SpecimenParameters(
        material="Au", diameter_nm=4.0, support="carbon", particles=(3, 3), faceted=1.0
    )
    film = SupportParameters(composition={"C": 1}, atoms_per_A3=0.1, thickness_nm=(5.0, 5.0))
    wave = simulate_field(RandomField("gold", specimen, film, 14.0, 420, 3))
    drawn = draw_condition(RandomExposures(uncorrected=0, bars=0, pictures=0, opaque=0), 1, "g", 0)
    image, label, _ = take(wave, replace(drawn, pixel_size_nm=0.03, dose_e_per_A2=600.0))
    return image, label == 1


def test_it_lies_in_the_package_and_is_small():
    files = [p for p in PLACE.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 1_000_000
    assert {p.suffix for p in files} == {".safetensors", ".json", ".parquet"}, "nothing pickled"


def test_the_weights_are_those_of_the_card():
    networks = boxed_networks()["box"]
    assert len(networks) >= 3
    for key, trained in networks.items():
        weights = (PLACE / "networks" / key / "model.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest() == trained.card.sha256
        assert sum(x.numel() for x in trained.state.values()) > 130_000
        assert trained.card.learned


def test_it_finds_gold_of_which_no_pixel_size_is_known(segmenter, gold):
    image, truth = gold
    found = segmenter.segment(image)
    mask = found.mask > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85
    assert np.isfinite(found.judgement["predicted_dice"])
    assert found.judgement["verdict"] != "not judged"


def test_the_function_takes_it_where_there_is_no_study(tmp_path, monkeypatch, gold):
    monkeypatch.chdir(tmp_path)
    image, _ = gold
    found = temshift.segment(image, 0.03, device="cpu")
    assert found.network == "box"
    assert BOX_NOTE in found.notes
    with pytest.raises(FileNotFoundError, match="no trained network"):
        temshift.segment(image, networks=tmp_path)


def nothing() -> dict[str, np.ndarray]:
    from scipy.ndimage import gaussian_filter
    from skimage import data

    rng = np.random.default_rng(3)
    return {
        "noise": rng.normal(1000, 30, (384, 384)),
        "smooth noise": 1000 + 500 * gaussian_filter(rng.standard_normal((384, 384)), 4),
        "photograph": data.camera(),
        "page of text": data.page(),
        "text": data.text(),
        "coins": data.coins(),
        "gradient": np.add.outer(np.arange(256.0), np.arange(256.0)),
    }


@pytest.mark.parametrize("name", list(nothing()))
def test_what_shows_no_particles_is_never_trusted(segmenter, name):
    judged = segmenter.segment(nothing()[name]).judgement
    assert judged["verdict"] in ("check", "do not trust")
    assert judged["reasons"]


def test_a_bare_film_is_never_trusted(segmenter):
    bare = RandomFields(count=1, seed=99, empty=1.0, least_width_nm=12.0, point_nm=0.04)
    wave = simulate_field(draw_field(bare, 0))
    for i in range(3):
        image, _, pixel_size_nm = take(wave, draw_condition(RandomExposures(), 99, "bare", i))
        assert segmenter.segment(image, pixel_size_nm).judgement["verdict"] != "trust"


def imported(shuffled: bool) -> dict[str, NetworkSet]:
    """Return a network that came without a study: a fold of the box, or its weights shuffled."""
    key, own = next(iter(boxed_networks()["box"].items()))
    torch.manual_seed(5)
    state = {
        name: x.flatten()[torch.randperm(x.numel())].reshape(x.shape) if shuffled else x
        for name, x in own.state.items()
    }
    card = own.card.model_copy(update={"network": "theirs", "imported": True})
    return {"theirs": {key: TrainedNetwork(state, card)}}


@pytest.fixture(scope="module")
def judge_imported():
    lent = lent_trust(imported(False), TrustParameters(trees=30))

    def judge(image: np.ndarray, shuffled: bool):
        segmenter = Segmenter(imported(shuffled), DeploymentParameters(), device="cpu", **lent)
        return segmenter.segment(image, 0.03)

    return judge


def test_an_imported_network_is_judged_by_the_box_which_draws_nothing(gold, judge_imported):
    found = judge_imported(gold[0], shuffled=False)
    assert found.network == "theirs"
    assert list(found.networks["network"]) == ["theirs"]
    assert found.judgement["predicted_dice"] > 0.8
    assert LENT_NOTE in found.notes


def test_an_imported_network_of_shuffled_weights_is_not_trusted(gold, judge_imported):
    assert judge_imported(gold[0], shuffled=True).judgement["verdict"] == "do not trust"


@pytest.mark.parametrize("name", ["noise", "page of text"])
def test_an_imported_network_is_not_trusted_where_nothing_is_to_be_seen(name, judge_imported):
    assert judge_imported(nothing()[name], shuffled=False).judgement["verdict"] != "trust"


def test_only_imported_networks_are_judged_by_the_box(gold, tmp_path, monkeypatch):
    from temshift.catalog.networks import NetworksDataset

    assert lent_trust(boxed_networks()) == {}
    assert lent_trust({**imported(False), **boxed_networks()}) == {}
    key, own = next(iter(imported(False)["theirs"].items()))
    tuned = own.card.model_copy(update={"fine_tuned": {"on": ["a"]}})
    assert lent_trust({"theirs": {key: TrainedNetwork(own.state, tuned)}}) == {}
    fewer = TrustParameters(trees=20)
    monkeypatch.setattr("temshift.api.lent_trust", lambda networks: lent_trust(networks, fewer))
    NetworksDataset(str(tmp_path / "theirs")).save(imported(False)["theirs"])
    found = temshift.segment(gold[0], 0.03, networks=tmp_path, device="cpu")
    assert found.judgement["verdict"] != "not judged"
    plain = temshift.segment(gold[0], 0.03, networks=tmp_path, device="cpu", judge=False)
    assert plain.judgement["verdict"] == "not judged"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"trust": "evidence"}, "judged by its own"),
        ({"networks": ["box"]}, "expected a folder of trained networks"),
        ({"input": "folder"}, "is of the pipeline deployment"),
        ({"pixel_size": 0.03}, "pixel_size: found a key that is not known; .*pixel_size_nm"),
        ({"bar_px": "tall"}, "bar_px: found 'tall'; expected a whole number"),
        ({"networks": {"a": "path"}}, r"networks\['a'\] is 'path'; expected the folds"),
        ({"networks": next(iter(boxed_networks().values()))}, "expected the folds of a network"),
    ],
)
def test_what_the_function_cannot_do_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        temshift.segment(np.ones((64, 64)), **{"networks": "box", **asked})


def test_its_trust_is_fitted_once_for_the_same_parameters(monkeypatch):
    fits = []
    fit = TrustModel.fit
    monkeypatch.setattr(
        TrustModel, "fit", lambda *given, **named: fits.append(1) or fit(*given, **named)
    )
    few = TrustParameters(trees=11)
    first, again = boxed_trust(few), boxed_trust(TrustParameters(trees=11))
    other = boxed_trust(few.model_copy(update={"seed": few.seed + 1}))
    assert first is again
    assert other is not first
    assert other.identity != first.identity
    assert len(fits) == 2


def test_a_mask_is_looked_at_before_the_trust_is_fitted(monkeypatch):
    monkeypatch.setattr("temshift.api.boxed_trust", lambda: pytest.fail("fitted"))
    image = np.random.default_rng(0).poisson(400, (64, 64))
    for mask, said in [
        (image, "grey levels"),
        (np.ones((64, 63)), "64 × 63 px, its image 64 × 64"),
    ]:
        with pytest.raises(ValueError, match=said):
            temshift.judge_mask(image, mask, 0.03, networks="box")


def test_networks_tuned_on_a_few_labels_draw_only_where_they_are_named(tmp_path, monkeypatch):
    """As in the pipeline: of a study's networks, or the box where there are none but tuned ones."""
    from temshift.catalog.networks import NetworksDataset

    (key, own), *_ = boxed_networks()["box"].items()
    tuned = own.card.model_copy(update={"fine_tuned": {"on": ["a"]}})
    folder = tmp_path / "data" / "06_models"
    NetworksDataset(str(folder / "tuned")).save({key: TrainedNetwork(own.state, tuned)})
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).poisson(400, (64, 64))
    quick = {"judge": False, "device": "cpu"}
    assert temshift.segment(image, 0.03, **quick).network == "box"
    with pytest.raises(FileNotFoundError, match=r"fine-tuned .* one by one: .*tuned"):
        temshift.segment(image, 0.03, networks=folder, **quick)
    assert temshift.segment(image, 0.03, networks=folder / "tuned", **quick).network == "tuned"
    NetworksDataset(str(folder / "theirs")).save(imported(False)["theirs"])
    found = temshift.segment(image, 0.03, **quick)
    assert list(found.networks["network"]) == ["theirs"]


def test_evidence_that_is_not_there_is_said_to_be_missing(tmp_path):
    from temshift.catalog.networks import NetworksDataset

    NetworksDataset(str(tmp_path / "theirs")).save(imported(False)["theirs"])
    with pytest.raises(FileNotFoundError, match=r"no evidence\.parquet in this folder"):
        temshift.segment(np.eye(64), 0.03, networks=tmp_path, trust=tmp_path / "nowhere")


def test_without_judgement_nothing_is_said_of_trust():
    image = np.random.default_rng(0).poisson(400, (64, 64)).astype(np.float32)
    judged, not_judged = (
        temshift.segment(image, 0.03, networks="box", judge=judge) for judge in (True, False)
    )
    assert judged.judgement["verdict"] != "not judged"
    assert not_judged.judgement["verdict"] == "not judged"
    assert np.isnan(not_judged.judgement["predicted_dice"])


def test_a_named_network_that_is_nowhere_is_not_replaced_by_the_one_in_the_box():
    from temshift.config.modelling import ModellingParameters
    from temshift.config.trust import TrustParameters
    from temshift.pipelines.deployment.nodes import segment_boxed

    asked = DeploymentParameters(networks=["finetuned"])
    with pytest.raises(ValueError, match="'finetuned', of which nothing is trained"):
        segment_boxed(None, asked, TrustParameters(), ModellingParameters())
