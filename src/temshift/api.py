"""What a script calls: a micrograph segmented, or a network trained further on a few labels.

The networks are those of a finished study.
Without a study the network that comes with the package draws the mask.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from temshift.catalog.boxed import BOX_NOTE, boxed_networks, boxed_trust, lent_trust
from temshift.catalog.networks import NetworksDataset
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.base import Strict
from temshift.config.deployment import DeploymentParameters
from temshift.config.errors import problems_of
from temshift.config.fine_tuning import FewLabelsParameters
from temshift.config.trust import TrustParameters
from temshift.learning.calibration import trained_on
from temshift.learning.few_labels import FewLabels, labelled_pair, tune_on_few_labels
from temshift.learning.network_set import NetworkSet
from temshift.learning.segmentation import Segmentation, Segmenter, mask_of, usable_image
from temshift.learning.trust import TrustModel

__all__ = ["fine_tune", "judge_mask", "load_networks", "load_trust", "segment"]

_Parameters = TypeVar("_Parameters", bound=Strict)

#: Parameters of the pipeline that a function has no use for.
_OF_THE_PIPELINE = {"input", "name", "masks"}


def segment(
    image: NDArray[Any],
    pixel_size_nm: float | None = None,
    networks: str | Path | Mapping[str, NetworkSet] | None = None,
    trust: str | Path | TrustModel | None = None,
    device: str = "auto",
    **parameters: Any,
) -> Segmentation:
    """Segment one micrograph: mask, particles, sizes, and whether to trust them.

    For many micrographs make a :class:`temshift.learning.segmentation.Segmenter` once.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type
        Detector counts; sides of at least 64 px.
    pixel_size_nm : float, optional
        Side of a pixel, nm; without it sizes are in px.
    networks : path or mapping of str to NetworkSet, optional
        Folder of trained networks (``06_models`` of a study, or that of one of them), networks by
        name, or ``"box"``: the network that comes with the package. By default those in
        ``data/06_models``, if there are any, or else ``"box"``. Of a study's folder those that were
        fine-tuned on a few labels are left out (:func:`load_networks`).
    trust : path or TrustModel, optional
        Folder of the study's evidence (``07_model_output/trust``). By default that beside the
        folder of networks, if there is one; without evidence nothing is said about trust, unless
        all networks were imported (:func:`temshift.catalog.boxed.lent_trust`). The network in the
        box has evidence of its own. ``judge=False`` asks for no judgement.
    device : str
    **parameters
        Of :class:`temshift.config.deployment.DeploymentParameters`: ``networks`` excepted, such as
        ``resample``, ``bar_px``, ``dose_e_per_A2``, ``material``, ``neck``.

    Returns
    -------
    Segmentation

    Raises
    ------
    FileNotFoundError
        No networks in the folder.
    ValueError
        The image or a parameter cannot be used.
    """
    return _segmenter(networks, trust, device, parameters).segment(image, pixel_size_nm)


def judge_mask(
    image: NDArray[Any],
    mask: NDArray[Any],
    pixel_size_nm: float | None = None,
    networks: str | Path | Mapping[str, NetworkSet] | None = None,
    trust: str | Path | TrustModel | None = None,
    device: str = "auto",
    **parameters: Any,
) -> Segmentation:
    """Judge and measure a mask that was made elsewhere, by hand or by another program.

    Parameters
    ----------
    image : ndarray, shape (H, W), any real type
        Detector counts; sides of at least 64 px.
    mask : ndarray, shape (H, W)
        Boolean; 0 and any other value; or the numbers of the particles, 0 for the background.
        Particles that touch are divided at necks, whatever their numbers.
    pixel_size_nm, networks, trust, device, **parameters
        As for :func:`segment`.

    Returns
    -------
    Segmentation
        Of this mask: its particles, sizes and judgement (:mod:`temshift.learning.outside`); the
        interval of its mean is NaN, for there are no folds that would differ.

    Raises
    ------
    FileNotFoundError
        No networks in the folder.
    ValueError
        The image, the mask or a parameter cannot be used.
    """
    bar_px = _validated(DeploymentParameters, parameters).bar_px
    mask_of(mask, usable_image(image, bar_px).shape, bar_px)  # before the trust is fitted
    segmenter = _segmenter(networks, trust, device, parameters)
    found = segmenter.segment(image, pixel_size_nm, masks={"mask": mask})
    own = found.outside["mask"]
    return replace(own, notes=[*found.image_notes, *own.notes], image_notes=found.image_notes)


def _segmenter(
    networks: str | Path | Mapping[str, NetworkSet] | None,
    trust: str | Path | TrustModel | None,
    device: str,
    parameters: Mapping[str, Any],
) -> Segmenter:
    for key in _OF_THE_PIPELINE & parameters.keys():
        raise ValueError(f"{key!r} is of the pipeline deployment, which reads and writes files")
    asked = _validated(DeploymentParameters, parameters)
    if networks is None:
        networks = "data/06_models" if _networks_in("data/06_models")[0] else "box"
    _check_networks(networks)
    if networks == "box":
        if isinstance(trust, str | Path):
            raise ValueError(
                f"trust is {str(trust)!r}, the evidence of a study, but the network in the box is "
                "judged by its own: name the study's folder of networks, too, or leave trust out"
            )
        model = (trust or boxed_trust()) if asked.judge else None
        return Segmenter(boxed_networks(), asked, model, device, [BOX_NOTE])
    folder = None if isinstance(networks, Mapping) else Path(networks)
    sets = networks if isinstance(networks, Mapping) else load_networks(networks)
    if not asked.judge:
        trust = None
    elif trust is None and folder is not None:
        beside = folder.parent / "07_model_output" / "trust"
        trust = beside if (beside / "evidence.parquet").exists() else None
    if isinstance(trust, str | Path):
        trust = load_trust(trust, sets)
    lent = lent_trust(sets) if trust is None and asked.judge else {}
    return Segmenter(sets, asked, device=device, **(lent or {"trust": trust}))


def _validated(model: type[_Parameters], given: Mapping[str, Any]) -> _Parameters:
    """Return parameters; what is wrong with them is said in the words of the pipeline."""
    try:
        return model(**given)
    except ValidationError as error:
        told = [f"{problem.key}: {problem.said}" for problem in problems_of(error)]
        raise ValueError("; ".join(told)) from None


def _check_networks(networks: object) -> None:
    """Refuse what is neither a folder nor networks by name."""
    wanted = "expected a folder of trained networks, networks by name, or 'box'"
    if not isinstance(networks, str | Path | Mapping):
        raise ValueError(f"networks is {networks!r}; {wanted}")
    if isinstance(networks, Mapping):
        for name, own in networks.items():
            if not isinstance(own, Mapping) or not own:
                raise ValueError(
                    f"networks[{name!r}] is {own!r}; expected the folds of a network, as "
                    "load_networks(folder) gives them"
                )


def fine_tune(
    images: Sequence[NDArray[Any]],
    masks: Sequence[NDArray[Any]],
    networks: str | Path | Mapping[str, NetworkSet] | None = None,
    **parameters: Any,
) -> FewLabels:
    """Train a network further on micrographs labelled by hand; say what that brings and costs.

    Parameters
    ----------
    images : sequence of ndarray, shape (H, W), any real type
        Detector counts; sides of at least 64 px.
    masks : sequence of ndarray, shape (H, W)
        One for each image: boolean; 0 and any other value; or the numbers of the particles, 0 for
        the background.
    networks : path or mapping of str to NetworkSet, optional
        As for :func:`segment`. With a folder of a study, what the labels cost elsewhere is measured
        on its patches (``05_model_input``), where they are there.
    **parameters
        Of :class:`temshift.config.fine_tuning.FewLabelsParameters`, such as ``network``,
        ``pixel_size_nm``, ``steps``, ``freeze``, ``labelled``, ``device``.

    Returns
    -------
    FewLabels
        Its ``networks`` segment: ``segment(image, networks={"fine_tuned": found.networks})``.

    Raises
    ------
    FileNotFoundError
        No networks in the folder.
    ValueError
        Images and masks do not fit together, or one cannot be used, which is named with its number
        from 0 (``mask 3``); the network does not exist.
    """
    if "input" in parameters:
        raise ValueError(
            "'input' is of the pipeline fine_tuning, which reads files: give arrays as 'images'"
        )
    for key, given in (("images", images), ("masks", masks)):
        if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
            raise ValueError(
                f"{key} is of type {type(given).__name__}; expected a list with an array for each "
                "micrograph"
            )
    images, masks = list(images), list(masks)
    if len(images) != len(masks):
        raise ValueError(
            f"each image needs a mask, found {len(images)} images and {len(masks)} masks"
        )
    labelled = [labelled_pair(i, *pair) for i, pair in enumerate(zip(images, masks, strict=True))]
    wanted = _validated(FewLabelsParameters, parameters)
    if networks is None:
        networks = "data/06_models" if _networks_in("data/06_models")[0] else "box"
    _check_networks(networks)
    if wanted.network == "box" or networks == "box":
        networks = boxed_networks()
    home = {}
    if isinstance(networks, str | Path):
        folder = Path(networks).parent / "05_model_input"
        networks = load_networks(networks)
        splits = {s for own in networks.values() for t in own.values() for s in t.card.train_on}
        files = {split: folder / split / "patches.h5" for split in sorted(splits)}
        home = {s: PatchStackDataset(str(f)).load() for s, f in files.items() if f.exists()}
    return tune_on_few_labels(networks, labelled, wanted, home)


def load_networks(folder: str | Path) -> dict[str, NetworkSet]:
    """Return the networks of a study, by name, or a single one.

    Parameters
    ----------
    folder : path
        ``06_models`` of a study, a folder a network. Those that were fine-tuned on a few labels are
        left out, as in the pipeline ``deployment``: name the folder of one,
        ``06_models/fine_tuned``, to have it alone.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    if any(Path(folder).glob("*/model.safetensors")):
        return {Path(folder).resolve().name: NetworksDataset(str(folder)).load()}
    found, tuned = _networks_in(folder)
    if not found:
        raise FileNotFoundError(
            f"{folder}: there is no trained network in this folder, expected "
            "<network>/<protocol>_fold<i>/model.safetensors. "
            + (
                f"Those fine-tuned on a few labels are named one by one: {tuned[0]}"
                if tuned
                else "Run a study first, or name its folder 06_models"
            )
        )
    return {path.name: NetworksDataset(str(path)).load() for path in found}


def _networks_in(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """Return the folders of a study's networks, and of those that were fine-tuned since."""
    cards: dict[Path, Path] = {}
    for file in sorted(Path(folder).glob("*/*/model.safetensors")):
        if file.parents[1].name[0] != ".":
            cards.setdefault(file.parents[1], file.with_name("card.json"))
    tuned = [path for path, card in cards.items() if _is_tuned(card)]
    return [path for path in cards if path not in tuned], tuned


def _is_tuned(card: Path) -> bool:
    """Return whether a card says so; what is wrong with one is said by whoever loads it."""
    try:
        return bool(json.loads(card.read_text(encoding="utf-8")).get("fine_tuned"))
    except (OSError, ValueError, AttributeError):
        return False


def load_trust(
    folder: str | Path,
    networks: Mapping[str, NetworkSet],
    parameters: TrustParameters | None = None,
) -> TrustModel:
    """Return the trust model of a study, fitted to its evidence.

    Parameters
    ----------
    folder : path
        With ``evidence.parquet`` and ``agreement.parquet`` (pipeline ``trust``).
    networks : mapping of str to NetworkSet
        Those of the study.
    parameters : TrustParameters, optional

    Raises
    ------
    FileNotFoundError
        There is no such evidence.
    ValueError
        It was gathered with networks that are not given.
    """
    for name in ("evidence.parquet", "agreement.parquet"):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(
                f"{folder}: there is no {name} in this folder, expected what the pipeline trust "
                "wrote: 07_model_output/trust in the data of a study with three image sets"
            )
    evidence = pd.read_parquet(Path(folder) / "evidence.parquet")
    known = trained_on(networks)
    if missing := sorted(set(evidence["network"]) - set(known)):
        raise ValueError(
            f"{folder}: the trust was learned with {len(missing)} networks that are not given "
            f"({', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}), found "
            f"{', '.join(known) or 'none'}: give all networks of the study, the folder 06_models"
        )
    return TrustModel.fit(
        evidence,
        pd.read_parquet(Path(folder) / "agreement.parquet"),
        known,
        parameters or TrustParameters(),
    )
