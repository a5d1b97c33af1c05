"""The trained networks of the published study as network sets of ours."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Protocol

import pandas as pd

import temshift
from temshift.config.base import nearest
from temshift.config.modelling import Architecture, Augmentation, NetworkParameters, Training
from temshift.config.preprocessing import PUBLISHED
from temshift.learning.cards import NetworkCard
from temshift.learning.network_set import NetworkSet, TrainedNetwork, network_key
from temshift.learning.published_weights import PublishedWeightsError, read_published_weights

__all__ = ["MODEL_LIST_COLUMNS", "WeightFiles", "import_networks", "weight_file_name"]

_log = logging.getLogger(__name__)

#: Columns of the study's model list (``model_details.csv``).
MODEL_LIST_COLUMNS = (
    "Model Name",
    "Fold",
    "Dataset Trained On",
    "Np Diameter (nm)",
    "Np Material",
    "Pixel Scale (nm)",
    "Dosage (e/A2)",
)
_SEED = re.compile(r"_seed(\d+)_")


class WeightFiles(Protocol):
    """A folder of weight files, found whatever the case of their names."""

    def find(self, name: str) -> str | None:
        """Return the file's own name, or ``None`` if there is none."""

    def read(self, name: str) -> bytes:
        """Return the content of a file that was found."""


def weight_file_name(listed: str) -> str:
    """Return the name of a weight file as the study's repository spells it.

    The model list writes ``Unet_...`` in 49 of its 50 rows, the files are called ``UNet_...``.
    """
    return re.sub(r"^unet_", "UNet_", listed.strip(), flags=re.IGNORECASE)


def import_networks(
    model_list: pd.DataFrame,
    files: WeightFiles,
    trained_sets: Mapping[str, str],
    networks: Mapping[str, NetworkParameters],
) -> tuple[dict[str, NetworkSet], pd.DataFrame]:
    """Gather the folds of every trained set of the study in a network set.

    Parameters
    ----------
    model_list : DataFrame
        The study's model list, one row a weight file (:data:`MODEL_LIST_COLUMNS`).
    files : WeightFiles
    trained_sets : mapping of str to str
        Name of a network here: the set it was trained on, as the model list names it.
    networks : mapping of str to NetworkParameters
        Declared networks; ``train_on`` says which split of ours a network was trained on.

    Returns
    -------
    network_sets : dict of str to NetworkSet
        By the keys of ``trained_sets``; a set none of whose files is there is empty.
    report : DataFrame
        One row a weight file: ``network, fold, seed, file, status, sha256``; status is
        ``imported`` or ``missing``.

    Raises
    ------
    ValueError
        The model list lacks columns or a trained set; none of its files is there.
    PublishedWeightsError
        A file is damaged, or no network of the study, or malicious; with its name.
    """
    missing = [column for column in MODEL_LIST_COLUMNS if column not in model_list]
    if missing:
        raise ValueError(
            f"the model list lacks the column {missing[0]!r}; "
            f"{nearest(missing[0], model_list.columns)}"
        )
    listed_sets = model_list["Dataset Trained On"].unique()
    sets: dict[str, NetworkSet] = {}
    report: list[dict[str, Any]] = []
    for name, trained_set in trained_sets.items():
        if trained_set not in listed_sets:
            raise ValueError(
                f"import_published.networks.{name}: the model list has no set {trained_set!r}; "
                f"{nearest(trained_set, listed_sets)}"
            )
        rows = model_list[model_list["Dataset Trained On"] == trained_set]
        train_on = networks[name].train_on if name in networks else []
        sets[name] = {}
        for row in rows.sort_values("Fold").to_dict("records"):
            found = files.find(row["Model Name"])
            card = _card(name, row, len(rows), train_on)
            if found is not None:
                data = files.read(found)
                try:
                    state = read_published_weights(data)
                except PublishedWeightsError as error:
                    raise PublishedWeightsError(f"{found}: {error}") from error
                origin = {"file": found, "sha256": hashlib.sha256(data).hexdigest()}
                card = card.model_copy(update=origin)
                sets[name][network_key("published", card.fold)] = TrainedNetwork(state, card)
            report.append(
                {
                    "network": name,
                    "fold": card.fold,
                    "seed": card.seed,
                    "file": found or weight_file_name(row["Model Name"]),
                    "status": "missing" if found is None else "imported",
                    "sha256": card.sha256 or "",
                }
            )
    table = pd.DataFrame(report)
    absent = table["status"] == "missing"
    if absent.all():
        raise ValueError(
            f"none of the {len(table)} weight files of the model list is there, e.g. "
            f"{table['file'].iloc[0]!r}: run where the network can be reached, or put them into "
            "the folder of import_published.raw.weights (see the catalog)"
        )
    if absent.any():
        _log.warning(
            "imported %d of %d networks of the study; missing: %s ...",
            (~absent).sum(),
            len(table),
            ", ".join(table.loc[absent, "file"].head(3)),
        )
    return sets, table


def _card(name: str, row: Mapping[Any, Any], folds: int, train_on: list[str]) -> NetworkCard:
    """Describe a weight file as training would: the study's protocol, and what the list says."""
    file = PurePosixPath(str(row["Model Name"])).name
    seed = _SEED.search(file)
    return NetworkCard(
        network=name,
        protocol="published",
        fold=int(row["Fold"]),
        folds=folds,
        seed=int(seed[1]) if seed else None,
        train_on=list(train_on),
        imported=True,
        architecture=Architecture(),
        training=Training(epochs=250),
        augmentation=Augmentation(dihedral="all"),
        preprocessing=PUBLISHED,
        pixel_size_nm=float(row["Pixel Scale (nm)"]),
        dose_e_per_A2=float(row["Dosage (e/A2)"]),
        material=str(row["Np Material"]),
        diameter_nm=float(row["Np Diameter (nm)"]),
        fingerprints={},
        train_groups=[],
        test_groups=[],
        history=[],
        trained_set=row["Dataset Trained On"],
        version=temshift.__version__,
    )
