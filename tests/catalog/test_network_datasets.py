import json

import pytest
import torch
from kedro.io import DatasetError

from temshift.catalog.networks import CheckpointsDataset, NetworksDataset
from temshift.learning.network_set import TrainedNetwork
from temshift.learning.networks import PublishedUNet


@pytest.fixture
def network_set():
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in PublishedUNet().state_dict().items()}
    card = {"architecture": {"name": "published_unet"}, "protocol": "grouped", "fold": 0}
    return {"grouped_fold0": TrainedNetwork(state, card)}


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
    broken = {"grouped_fold1": TrainedNetwork(network_set["grouped_fold0"].state, {"x": object()})}
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


def test_weights_that_are_no_safetensors_are_refused(tmp_path, network_set):
    dataset = NetworksDataset(str(tmp_path / "net"))
    dataset.save(network_set)
    (tmp_path / "net" / "grouped_fold0" / "model.safetensors").write_bytes(b"\x80\x04junk")
    with pytest.raises(DatasetError):
        dataset.load()


def test_checkpoints_belong_to_one_training(tmp_path):
    store = CheckpointsDataset(str(tmp_path / "c")).load()
    assert store.load("grouped_fold0", "a") is None
    store.save("grouped_fold0", "a", {"step": 3, "weights": torch.ones(2)})
    assert store.load("grouped_fold0", "a")["step"] == 3
    assert store.load("grouped_fold0", "b") is None, "other data or parameters start anew"
    store.clear()
    assert store.load("grouped_fold0", "a") is None


def test_the_card_is_readable_json(tmp_path, network_set):
    NetworksDataset(str(tmp_path / "net")).save(network_set)
    card = json.loads((tmp_path / "net" / "grouped_fold0" / "card.json").read_text())
    assert card["architecture"]["name"] == "published_unet"
