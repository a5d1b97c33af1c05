import json

import pytest
import torch
from kedro.io import DatasetError
from tests.network_cards import network_card

from temshift.catalog.networks import CheckpointsDataset, NetworksDataset
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.networks import PublishedUNet


@pytest.fixture
def network_set():
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in PublishedUNet().state_dict().items()}
    return {"grouped_fold0": TrainedNetwork(state, network_card(history=[{"step": 1, "x": 0.1}]))}


def test_a_set_comes_back_as_it_was(tmp_path, network_set):
    dataset = NetworksDataset(str(tmp_path / "net"))
    assert not dataset.exists()
    dataset.save(network_set)
    assert dataset.exists()
    back = dataset.load()["grouped_fold0"]
    assert back.card == network_set["grouped_fold0"].card
    for name, tensor in network_set["grouped_fold0"].state.items():
        assert torch.equal(back.state[name], tensor)
    x = torch.zeros(1, 1, 32, 32)
    assert back.build()(x).shape == (1, 2, 32, 32)


def test_saving_twice_gives_the_same_bytes(tmp_path, network_set):
    for name in ("a", "b"):
        NetworksDataset(str(tmp_path / name)).save(network_set)
    for file in ("model.safetensors", "card.json"):
        first, second = (tmp_path / n / "grouped_fold0" / file for n in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_a_failed_save_leaves_the_old_set(tmp_path, network_set):
    dataset = NetworksDataset(str(tmp_path / "net"))
    dataset.save(network_set)
    card = network_card(history=[{"x": object()}])
    broken = {"grouped_fold1": TrainedNetwork(network_set["grouped_fold0"].state, card)}
    with pytest.raises(DatasetError):
        dataset.save(broken)
    assert list(dataset.load()) == ["grouped_fold0"]
    assert [p.name for p in tmp_path.iterdir()] == ["net"], "nothing half-written is left"


def test_a_card_that_is_no_json_names_the_folder(tmp_path, network_set):
    dataset = NetworksDataset(str(tmp_path / "net"))
    dataset.save(network_set)
    (tmp_path / "net" / "grouped_fold0" / "card.json").write_text("{")
    with pytest.raises(DatasetError, match="grouped_fold0: the network cannot be read"):
        dataset.load()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card.pop("seed"), "key 'seed': found nothing, expected"),
        (lambda card: card.update(fold="x"), "key 'fold': found 'x', expected a valid integer"),
        (lambda card: card.update(fold=2), "fold 2 of 2: folds are counted from 0"),
        (lambda card: card.update(dose=4), "key 'dose': found 4, expected no such key; did you"),
        (lambda card: card["architecture"].update(nme=1), "key 'architecture.nme': found 1"),
        (
            lambda card: card.update(preprocessing={"xray": {"passes": -1}}),
            "key 'preprocessing.xray.passes': found -1, expected greater than or equal to 0",
        ),
        (lambda card: card.update(pixel_size_nm=0), "key 'pixel_size_nm': found 0, expected"),
    ],
)
def test_a_card_of_the_wrong_shape_says_file_key_found_and_expected(
    tmp_path, network_set, change, said
):
    dataset = NetworksDataset(str(tmp_path / "net"))
    dataset.save(network_set)
    path = tmp_path / "net" / "grouped_fold0" / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "Train or import" in str(caught.value)


def test_a_card_that_is_no_object_is_told_as_such(tmp_path, network_set):
    dataset = NetworksDataset(str(tmp_path / "net"))
    dataset.save(network_set)
    (tmp_path / "net" / "grouped_fold0" / "card.json").write_text("[1]")
    with pytest.raises(DatasetError, match=r"card\.json: .*the card: found \[1\], expected"):
        dataset.load()


def test_weights_that_are_no_safetensors_are_refused(tmp_path, network_set):
    dataset = NetworksDataset(str(tmp_path / "net"))
    dataset.save(network_set)
    file = tmp_path / "net" / "grouped_fold0" / "model.safetensors"
    whole = file.read_bytes()
    for content in (b"\x80\x04junk", whole[: len(whole) // 2], b""):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"grouped_fold0: the network .* Delete this folder"):
            dataset.load()


def test_checkpoints_belong_to_one_training(tmp_path):
    store = CheckpointsDataset(str(tmp_path / "c")).load()
    assert store.load("grouped_fold0", "a") is None
    store.save("grouped_fold0", "a", {"step": 3, "weights": torch.ones(2)})
    assert store.load("grouped_fold0", "a")["step"] == 3
    assert store.load("grouped_fold0", "b") is None, "other data or parameters start anew"
    store.clear()
    assert store.load("grouped_fold0", "a") is None


def test_a_damaged_checkpoint_is_told_and_the_fold_starts_anew(tmp_path, caplog):
    store = CheckpointsDataset(str(tmp_path / "c")).load()
    file = tmp_path / "c" / "grouped_fold0.pt"
    store.save("grouped_fold0", "a", {"step": 3, "weights": torch.ones(2)})
    whole = file.read_bytes()
    torch.save([1], tmp_path / "other.pt")
    other = (tmp_path / "other.pt").read_bytes()
    for content in (b"\x80\x04junk", bytes(range(256)), whole[: len(whole) // 2], b"", other):
        file.write_bytes(content)
        caplog.clear()
        assert store.load("grouped_fold0", "a") is None
        own = (r for r in caplog.records if r.name == "temshift.catalog.networks")
        (said,) = (r.getMessage() for r in own if r.levelname == "WARNING")
        assert str(file) in said
        assert "trained from its beginning" in said
        assert "weights_only" not in said
    store.save("grouped_fold0", "a", {"step": 4})
    assert store.load("grouped_fold0", "a") == {"step": 4}


def test_the_card_is_readable_json(tmp_path, network_set):
    NetworksDataset(str(tmp_path / "net")).save(network_set)
    card = json.loads((tmp_path / "net" / "grouped_fold0" / "card.json").read_text())
    assert card["architecture"]["name"] == "published_unet"
