"""The weights of the published study, read without running what their files ask to be run.

The study saved whole networks with ``torch.save(network)``: zip archives around a pickle that
names ``__main__.UNet``, ``__main__.ResidualBlock`` and classes of torch. Unpickling such a file
the ordinary way imports and calls whatever it names. Here the pickle is checked opcode by opcode,
may name only the handful of globals in :data:`ALLOWED`, and each of these is answered with an
inert stand-in of ours: nothing is imported on behalf of the file, no network class is run, and
only arrays of numbers come out.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALLOWED", "PublishedWeightsError", "read_published_weights"]

_MODULES = (
    ("__main__", "UNet"),
    ("__main__", "ResidualBlock"),
    ("torch.nn.modules.container", "ModuleList"),
    ("torch.nn.modules.conv", "Conv2d"),
    ("torch.nn.modules.batchnorm", "BatchNorm2d"),
    ("torch.nn.modules.activation", "ReLU"),
    ("torch.nn.modules.pooling", "MaxPool2d"),
    ("torch.nn.modules.upsampling", "Upsample"),
)
_STORAGES = {("torch", "FloatStorage"): "float32", ("torch", "LongStorage"): "int64"}
_REBUILDS = (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"))
_CONTAINERS = {("collections", "OrderedDict"): OrderedDict, ("__builtin__", "set"): set}

#: The only globals (module, name) that the pickle of a weight file may name.
ALLOWED = frozenset([*_MODULES, *_STORAGES, *_REBUILDS, *_CONTAINERS])

#: Opcodes of pickle protocol 2 that ``torch.save`` writes for a network; all others are refused.
_OPCODES = frozenset(
    """PROTO STOP MARK GLOBAL REDUCE BUILD NEWOBJ BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    """.split()  # noqa: SIM905
)
_MAX_PICKLE_BYTES = 1_000_000  # the published ones have 32 kB
_MAX_TUPLES = 10_000  # hashing a deeply nested tuple would overflow the stack


class PublishedWeightsError(ValueError):
    """A file is not a network of the published study, or asks for something it may not."""


def read_published_weights(data: bytes) -> dict[str, Tensor]:
    """Read a weight file of the study as the state dict of a ``PublishedUNet``.

    Parameters
    ----------
    data : bytes
        Content of a ``UNet_*_model.h5`` file: despite its name a PyTorch zip archive that holds a
        pickled network (or its state dict).

    Returns
    -------
    dict of str to Tensor
        The 146 parameters and buffers of :class:`temshift.learning.networks.PublishedUNet`, in
        its order, names and shapes; float32 (counters int64), contiguous, on the CPU.

    Raises
    ------
    PublishedWeightsError
        Not such an archive, damaged, a global or opcode beyond the allowed ones (the message
        names it; nothing has been imported or called), tensors that do not fit the network, or
        values that are not finite.

    Notes
    -----
    Entries of the archive must be stored, not compressed, and add up to no more than the file,
    so that memory is bounded by the size of ``data``.
    """
    from temshift.learning.devices import own_random_state
    from temshift.learning.networks import PublishedUNet

    try:
        reader = _Reader(_read_entries(data))
        root = reader.load()
    except PublishedWeightsError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise PublishedWeightsError(
            f"the pickle of the weight file is damaged ({type(error).__name__}: {error})"
        ) from error

    with own_random_state():  # only names and shapes are wanted
        expected = PublishedUNet().state_dict()
    state = {name: _resolve(root, name) for name in expected}
    missing = [name for name, tensor in state.items() if tensor is None]
    if missing:
        raise PublishedWeightsError(
            f"not a network of the study: {len(missing)} of its {len(expected)} tensors are "
            f"missing, the first is {missing[0]!r}"
        )
    if reader.n_tensors != len(expected):
        raise PublishedWeightsError(
            f"not a network of the study: found {reader.n_tensors} tensors, "
            f"expected {len(expected)}"
        )
    for name, tensor in state.items():
        found = (tuple(tensor.shape), tensor.dtype)
        wanted = (tuple(expected[name].shape), expected[name].dtype)
        if found != wanted:
            raise PublishedWeightsError(f"tensor {name!r} is {found}, expected {wanted}")
        if not tensor.isfinite().all():
            raise PublishedWeightsError(f"tensor {name!r} holds values that are not finite")
    return state


def _read_entries(data: bytes) -> dict[str, bytes]:
    """Return the files of the archive by their path below its single top folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            compressed = [i.filename for i in infos if i.compress_type != zipfile.ZIP_STORED]
            if compressed or sum(i.file_size for i in infos) > len(data):
                raise PublishedWeightsError(
                    f"the archive has {len(data)} bytes but unpacks to "
                    f"{sum(i.file_size for i in infos)} ({len(compressed)} entries compressed); "
                    "PyTorch stores its entries uncompressed"
                )
            entries = {i.filename.partition("/")[2]: archive.read(i) for i in infos}
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, NotImplementedError) as error:
        raise PublishedWeightsError(
            f"not a PyTorch zip archive, or a damaged one ({error}); download the file again"
        ) from error
    if "data.pkl" not in entries:
        raise PublishedWeightsError(
            f"the archive holds no data.pkl, so PyTorch did not write it; "
            f"it holds {sorted(entries)[:5]}"
        )
    if entries.get("byteorder", b"little") != b"little":
        raise PublishedWeightsError("the weights are stored big-endian, expected little-endian")
    return entries


class _Reader(pickle.Unpickler):
    """Unpickler that knows :data:`ALLOWED` only, and makes stand-ins of its own of them."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        stream = entries["data.pkl"]
        _check_opcodes(stream)
        super().__init__(io.BytesIO(stream))
        self.n_tensors = 0
        self._entries = entries
        # made anew for every file, so that no file can leave anything behind in them
        module = type("StandIn", (), {})
        self._answers: dict[tuple[str, str], Any] = dict.fromkeys(_MODULES, module)
        self._answers.update(_STORAGES)
        self._answers.update(_CONTAINERS)
        self._answers.update(zip(_REBUILDS, (self._tensor, self._parameter), strict=True))

    def find_class(self, module: str, name: str) -> Any:
        """Answer a global with its stand-in; nothing is ever imported."""
        try:
            return self._answers[module, name]
        except KeyError:
            raise PublishedWeightsError(
                f"the pickle asks for {module}.{name}, which no network of the study needs: it "
                "was refused and nothing of the file was run. Do not use this file"
            ) from None

    def persistent_load(self, pid: Any) -> Tensor:
        """Return a storage, ``("storage", type, key, device, count)``, as a flat tensor."""
        import torch

        kind, dtype, key, _device, count = pid
        if kind != "storage" or dtype not in _STORAGES.values():
            raise PublishedWeightsError(f"unknown kind of storage {pid!r}")
        storage = torch.frombuffer(
            bytearray(self._entries[f"data/{key}"]), dtype=getattr(torch, dtype)
        )
        if storage.numel() != count:
            raise PublishedWeightsError(
                f"storage {key} holds {storage.numel()} numbers, its pickle says {count}"
            )
        return storage

    def _tensor(self, storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        """Stand in for ``torch._utils._rebuild_tensor_v2``."""
        if math.prod(size) > storage.numel():
            raise PublishedWeightsError(
                f"a tensor of shape {tuple(size)} over only {storage.numel()} stored numbers"
            )
        self.n_tensors += 1
        return storage.as_strided(size, stride, offset).clone().contiguous()

    def _parameter(self, tensor: Tensor, *_: Any) -> Tensor:
        """Stand in for ``torch._utils._rebuild_parameter``."""
        return tensor


def _check_opcodes(stream: bytes) -> None:
    """Refuse a pickle with other opcodes than torch writes, or made to exhaust memory."""
    if len(stream) > _MAX_PICKLE_BYTES:
        raise PublishedWeightsError(
            f"data.pkl has {len(stream)} bytes, expected at most {_MAX_PICKLE_BYTES}"
        )
    tuples = 0
    try:
        for opcode, argument, position in pickletools.genops(stream):
            if opcode.name not in _OPCODES:
                raise PublishedWeightsError(
                    f"the pickle holds the opcode {opcode.name} (byte {position}), which no "
                    "network of the study needs: it was refused and nothing of the file was run"
                )
            tuples += opcode.name.startswith("TUPLE")
            memo = opcode.name.endswith("BINPUT") and int(argument or 0) > len(stream)
            if memo or tuples > _MAX_TUPLES:
                raise PublishedWeightsError(
                    f"the pickle is made to exhaust memory ({opcode.name} at byte {position})"
                )
    except PublishedWeightsError:
        raise
    except Exception as error:  # pickletools raises ValueError, struct.error, UnicodeDecodeError
        raise PublishedWeightsError(f"the pickle is damaged ({error})") from error


def _resolve(root: Any, name: str) -> Any:
    """Follow ``downs.0.conv1.weight`` through stand-ins of modules, or look it up in a dict."""
    from torch import Tensor

    if isinstance(root, dict):
        found = root.get(name)
        return found if isinstance(found, Tensor) else None
    *path, leaf = name.split(".")
    for part in path:
        modules = getattr(root, "_modules", None)
        root = modules.get(part) if isinstance(modules, dict) else None
    for kind in ("_parameters", "_buffers"):
        tensors = getattr(root, kind, None)
        if isinstance(tensors, dict) and isinstance(tensors.get(leaf), Tensor):
            return tensors[leaf]
    return None
