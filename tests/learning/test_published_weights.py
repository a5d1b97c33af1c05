"""The restricted reader of the study's weight files: faithful, and deaf to what they ask for."""

import builtins
import io
import os
import pickle
import shutil
import sys
import types
import zipfile
from typing import Any

import pytest
import torch
from tests.real_data import SHARED
from torch import nn
from torch.nn import functional

from temshift.learning import networks
from temshift.learning.networks import PublishedUNet
from temshift.learning.published_weights import PublishedWeightsError, read_published_weights

WEIGHTS = SHARED / "published" / "weights"


def saved(network: nn.Module) -> bytes:
    """Pickle a whole network as the study did: classes of ``__main__``, torch's zip archive."""
    buffer = io.BytesIO()
    torch.save(network, buffer)
    return buffer.getvalue()


@pytest.fixture
def as_main(monkeypatch):
    """Make the network's classes look as if they stood in the notebook, ``__main__``."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    names = {networks.PublishedUNet: "UNet", networks.ResidualBlock: "ResidualBlock"}
    for cls, name in names.items():
        cls.__module__, cls.__qualname__ = "__main__", name
        setattr(main, name, cls)
    yield
    for cls in names:
        cls.__module__, cls.__qualname__ = networks.__name__, cls.__name__


def network(seed: int = 3, **options: Any) -> PublishedUNet:
    torch.manual_seed(seed)
    made = PublishedUNet(**options)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = nn.BatchNorm2d  # the study's networks know no other
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return made


def with_pickle(pkl: bytes, name: str = "archive/data.pkl") -> bytes:
    """Return an archive like torch's with another pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, pkl)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", bytes(16))
    return buffer.getvalue()


def replace_pickle(data: bytes, change) -> bytes:
    """Return the archive with its pickle changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, change(content) if "data.pkl" in info.filename else content)
    return buffer.getvalue()


# --------------------------------------------------------------------------- faithful
def test_a_pickled_network_is_read_without_its_classes(as_main, monkeypatch):
    made = network()
    data = saved(made)
    assert b"__main__\nUNet" in data
    monkeypatch.delitem(sys.modules, "__main__")  # reading needs no such module
    state = read_published_weights(data)
    assert list(state) == list(made.state_dict())
    assert all(torch.equal(state[k], v) for k, v in made.state_dict().items())
    assert all(v.is_contiguous() for v in state.values())


def test_a_saved_state_dict_is_read_too():
    buffer = io.BytesIO()
    made = network()
    torch.save(made.state_dict(), buffer)
    state = read_published_weights(buffer.getvalue())
    assert all(torch.equal(state[k], v) for k, v in made.state_dict().items())


def test_reading_draws_no_random_numbers(as_main):
    data = saved(network())
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    read_published_weights(data)
    assert torch.equal(torch.rand(3), expected)


def forward(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The study's network, written from the names in its state dict with plain functions."""

    def block(name: str, x: torch.Tensor) -> torch.Tensor:
        def conv(layer: str, x: torch.Tensor, padding: int) -> torch.Tensor:
            key = f"{name}.{layer}"
            return functional.conv2d(
                x, state[f"{key}.weight"], state[f"{key}.bias"], padding=padding
            )

        def norm(layer: str, x: torch.Tensor) -> torch.Tensor:
            key = f"{name}.{layer}"
            statistics = [state[f"{key}.{s}"] for s in ("running_mean", "running_var")]
            return functional.batch_norm(
                x, *statistics, state[f"{key}.weight"], state[f"{key}.bias"]
            )

        y = torch.relu(norm("bn1", conv("conv1", x, 1)))
        return torch.relu(norm("bn2", conv("conv2", y, 1)) + conv("conv_add", x, 0))

    skips = []
    for i in range(4):
        x = block(f"downs.{i}", x)
        skips.append(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))
    x = block("bottleneck", x)
    for i in range(4):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = block(f"ups.{i}", torch.cat([skips[3 - i], x], 1))
    return functional.conv2d(x, state["final_conv.weight"], state["final_conv.bias"])


def assert_same_logits(state: dict[str, torch.Tensor]) -> None:
    built = PublishedUNet()
    built.load_state_dict(state)
    x = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, expected = built.eval()(x), forward(state, x)
    assert logits.shape == (2, 2, 64, 96)
    assert logits.std() > 0.1
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_imported_logits_equal_a_plain_forward_pass(as_main):
    assert_same_logits(read_published_weights(saved(network())))


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the study's weight files are not here")
def test_the_studys_own_files_give_the_same_logits_as_a_plain_forward_pass():
    files = sorted(WEIGHTS.glob("*.h5"))
    assert len(files) == 3
    for file in files:
        state = read_published_weights(file.read_bytes())
        trained = [v for k, v in state.items() if "running" not in k and "num_batches" not in k]
        assert sum(v.numel() for v in trained) == 130_682
        assert_same_logits(state)


# --------------------------------------------------------------------------- malicious
class _Reduce:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def bait(tmp_path, monkeypatch):
    """A file that a successful attack would write."""
    monkeypatch.chdir(tmp_path)
    yield f"touch {tmp_path}/pwned"
    assert not (tmp_path / "pwned").exists()


def attacks(bait: str) -> dict[str, object]:
    return {
        "posix.system": _Reduce(os.system, bait),
        "eval": _Reduce(builtins.eval, f"__import__('os').system({bait!r})"),
        "exec": _Reduce(builtins.exec, f"import os; os.system({bait!r})"),
        "getattr": _Reduce(getattr, "x", "upper"),
        "torch.serialization.load": _Reduce(torch.load, "other.pt", None, None),
        "torch.hub.load": _Reduce(torch.hub.load, "who/ever", "model"),
        "shutil.rmtree": _Reduce(shutil.rmtree, "/nowhere"),
    }


@pytest.mark.parametrize("name", list(attacks("")))
@pytest.mark.parametrize("nested", [False, True])
def test_a_malicious_pickle_is_refused_by_name(bait, name, nested):
    attack = attacks(bait)[name]
    pkl = pickle.dumps({"downs": [1, {"weight": (attack, 2)}]} if nested else attack, protocol=2)
    with pytest.raises(PublishedWeightsError, match=name.replace(".", r"\.")) as error:
        read_published_weights(with_pickle(pkl))
    assert "nothing of the file was run" in str(error.value)


def test_an_attack_hidden_in_a_real_network_is_refused(as_main, bait):
    made = network()
    made.ups[1].relu_hook = _Reduce(os.system, bait)
    with pytest.raises(PublishedWeightsError, match=r"posix\.system"):
        read_published_weights(saved(made))


def test_an_attack_in_a_tensors_hooks_is_refused(as_main, bait):
    made = network()
    data = saved(made)
    hook = b"cposix\nsystem\n" + pickle.dumps(bait, protocol=2)[2:-1] + b"\x85R"
    # the first call of _rebuild_tensor_v2 gets the attack where its backward hooks stand
    first = data.index(b"ccollections\nOrderedDict\n")
    assert first > 0
    with pytest.raises(PublishedWeightsError, match=r"posix\.system"):
        read_published_weights(
            replace_pickle(data, lambda p: p.replace(b"ccollections\nOrderedDict\n", hook, 1))
        )


def test_attributes_of_allowed_globals_cannot_be_reached(bait):
    for module, name in (("torch._utils", "os.system"), ("collections", "abc.sys")):
        pkl = (
            b"\x80\x04"
            + b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
            + b"\x93."
        )
        with pytest.raises(PublishedWeightsError, match="opcode"):
            read_published_weights(with_pickle(pkl))
        with pytest.raises(PublishedWeightsError, match="asks for"):
            read_published_weights(with_pickle(f"\x80\x02c{module}\n{name}\n.".encode("latin-1")))


def test_other_ways_of_calling_are_refused(bait):
    text = bait.encode()
    for pkl in (
        b"(S'" + text + b"'\niposix\nsystem\n.",  # INST
        b"(cposix\nsystem\nS'" + text + b"'\no.",  # OBJ
        b"\x82\x01.",  # an extension code
    ):
        with pytest.raises(PublishedWeightsError, match="opcode"):
            read_published_weights(with_pickle(pkl))


def test_nothing_a_file_does_to_the_stand_ins_outlives_it(as_main):
    data = saved(network())
    # BUILD on the stand-in class itself: give it an attribute that would shadow the modules
    poison = b"\x80\x02c__main__\nUNet\n}}X\x08\x00\x00\x00_modules}s\x86b."
    with pytest.raises(PublishedWeightsError):
        read_published_weights(with_pickle(poison))
    assert len(read_published_weights(data)) == 146


# --------------------------------------------------------------------------- bombs and damage
def test_a_compressed_archive_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(PublishedWeightsError, match="unpacks to 50000000"):
        read_published_weights(buffer.getvalue())


def tensor_pickle(size: tuple, stride: tuple, count: int = 4, offset: int = 0) -> bytes:
    """A pickle of one tensor over the storage 0."""

    class _Storage:
        pass

    class _Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, _Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", count)
            return None

    buffer = io.BytesIO()
    arguments = (_Storage(), offset, size, stride, False, None)
    pickler = _Pickler(buffer, protocol=2)
    pickler.dump({"x": _Reduce(torch._utils._rebuild_tensor_v2, *arguments)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((100_000, 100_000), (0, 0)), "over only 4 stored numbers"),
        (((4,), (1,), 4, 2), "damaged"),  # beyond the end of its storage
        (((4,), (1,), 9), "holds 4 numbers, its pickle says 9"),
    ],
)
def test_a_tensor_larger_than_its_storage_is_refused(arguments, message):
    with pytest.raises(PublishedWeightsError, match=message):
        read_published_weights(with_pickle(tensor_pickle(*arguments)))


def test_pickles_made_to_exhaust_memory_are_refused():
    deep = b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"K\x01s."  # hashing it would overflow
    memo = b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b"."  # a memo of 2^31 places
    for pkl in (deep, memo):
        with pytest.raises(PublishedWeightsError, match="exhaust memory"):
            read_published_weights(with_pickle(pkl))
    with pytest.raises(PublishedWeightsError, match="expected at most"):
        read_published_weights(with_pickle(bytes(2_000_000)))


def test_other_networks_and_damaged_numbers_are_refused(as_main):
    def state_with(change) -> bytes:
        state = network().state_dict()
        change(state)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    for change, message in (
        (lambda s: s.pop("final_conv.bias"), "1 of its 146 tensors are missing.*final_conv.bias"),
        (lambda s: s.update(more=torch.zeros(2)), "found 147 tensors"),
        (lambda s: s.update({"final_conv.bias": torch.zeros(3)}), r"\(3,\).*expected.*\(2,\)"),
        (lambda s: s["final_conv.bias"].fill_(float("nan")), "not finite"),
    ):
        with pytest.raises(PublishedWeightsError, match=message):
            read_published_weights(state_with(change))
    with pytest.raises(PublishedWeightsError, match="missing"):
        read_published_weights(saved(network(filters=(4, 8, 16))))


def test_any_damage_is_a_clear_error(as_main):
    data = saved(network())
    for length in (0, 10, 1000, len(data) // 2, len(data) - 1):
        with pytest.raises(PublishedWeightsError):
            read_published_weights(data[:length])
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for position in torch.randint(len(data), (60,), generator=generator).tolist():
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        try:
            read_published_weights(bytes(damaged))
        except PublishedWeightsError:
            refused += 1
    assert refused > 30  # the rest hit padding or the headers' unused fields
    with pytest.raises(PublishedWeightsError, match="not a PyTorch zip archive"):
        read_published_weights(b"\x89HDF\r\n\x1a\n" + bytes(100))  # a real HDF5 file
    with pytest.raises(PublishedWeightsError, match=r"no data\.pkl"):
        read_published_weights(with_pickle(b"", name="archive/other"))
