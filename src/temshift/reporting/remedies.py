"""The report's section on what helps: remedies tested, and parameters that would test others."""

from __future__ import annotations

from typing import Any

import pandas as pd

from temshift.config.base import plain
from temshift.reporting.content import ReportContent, records
from temshift.reporting.sentences import condition, number, study_phrase, with_interval
from temshift.study.remedies import suggested_parameters
from temshift.study.verdicts import LOSSES

__all__ = ["remedies_section", "remedy_in_words"]


def remedies_section(content: ReportContent) -> dict[str, Any]:
    """Return what the template ``remedies.html`` shows.

    Returns
    -------
    dict
        ``answer``, a sentence or two; ``rows``, one a shift and remedy, worst shift first;
        ``untested``, one a network that loses without a tested remedy, with the parameters that
        would test one (YAML); ``protocol``.
    """
    table = content.remedies[content.remedies["protocol"] == content.protocol]
    tested = table[table["remedy"] != ""]
    order = {verdict: i for i, verdict in enumerate(LOSSES)}
    place = tested["verdict"].map(lambda v: order.get(v, len(order)))
    tested = tested.assign(place=place).sort_values(
        ["place", "gap", "gain"], ascending=[True, False, False], kind="stable"
    )
    return {
        "answer": _answer(table),
        "rows": [_row(content, row) for row in records(tested)],
        "untested": _untested(content, table[table["remedy"] == ""]),
        "protocol": content.protocol,
    }


def remedy_in_words(content: ReportContent, network: str) -> str:
    """Return what is done to a network in a few words: ``noise up to ρ = 1.75``."""
    own = content.plan.networks[network]
    words = []
    if own.adaptation is not None:
        if own.adaptation.pixel_size:
            words.append("images resampled to the training pixel size")
        if own.adaptation.batch_norm:
            words.append("batch norms adapted to the images, without labels")
        if content.plan.weights_of(network) not in content.plan.splits:
            words.append(f"of {content.plan.weights_of(network)}")
    if own.fine_tuning is not None:
        k = own.fine_tuning.micrographs
        words.append(f"fine-tuned on {k} labelled micrograph{'s' if k > 1 else ''}")
    augmentation = own.augmentation
    if noise := augmentation.get("noise"):
        amount = noise.get("rho_max") or noise.get("rho")
        words.append(f"noise {'up to ' if noise.get('rho_max') else ''}ρ = {amount:g}")
    if factor := augmentation.get("pixel_size_factor"):
        words.append(f"pixel size times {factor[0]:g} to {factor[1]:g}")
    if len(own.train_on) > 1:
        words.append(f"trained on {len(own.train_on)} sets")
    if normalisation := own.architecture.get("normalisation"):
        words.append(f"{normalisation} normalisation")
    if architecture := own.architecture.get("name"):
        words.append(str(architecture))
    known = {"noise", "pixel_size_factor"}
    if any(set(block) - known for block in (own.training, augmentation)):
        words.append("other settings")
    return ", ".join(words) or "the same settings, another seed"


# --------------------------------------------------------------------------- inside
def _answer(table: pd.DataFrame) -> str:
    """Say how many of the shifts that lose are mended by something that was tested."""
    shift = ["study", "baseline", "test_split"]
    losses = table[table["verdict"].isin(LOSSES)]
    if losses.empty:
        return "No shift of this run surely degrades or breaks a network: there is nothing to mend."
    total = len(losses[shift].drop_duplicates())
    tested = losses[losses["remedy"] != ""]
    n_tested = len(tested[shift].drop_duplicates())
    n_helped = len(tested.loc[tested["effect"] == "helps", shift].drop_duplicates())
    shifts = "The shift" if total == 1 else f"Of {total} shifts"
    text = (
        f"{shifts} that {'degrades or breaks' if total == 1 else 'degrade or break'} a network"
        f"{' has' if total == 1 else f', {n_tested} {_have(n_tested)}'} "
    )
    if total == 1:
        text += "a tested remedy" if n_tested else "no tested remedy"
    else:
        text += "a tested remedy"
    if n_tested:
        text += f", which surely helps for {n_helped}" if total > 1 else ""
        text += (", which surely helps" if n_helped else ", of which no gain is sure") * (
            total == 1
        )
    return text + "."


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _row(content: ReportContent, row: dict[str, Any]) -> dict[str, Any]:
    study = str(row["study"])

    def interval(name: str) -> str:
        return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])

    return {
        "study": content.plan.title(study),
        "shift": _shift(content, row),
        "verdict": row["verdict"],
        "remedy": row["remedy"],
        "words": remedy_in_words(content, str(row["remedy"])),
        **{name: interval(name) for name in ("before", "after", "gain", "cost", "left")},
        "p": "< 0.001" if row["p_holm"] < 0.001 else number(row["p_holm"], 3),
        "effect": row["effect"],
        "reason": row["reason"],
    }


def _shift(content: ReportContent, row: dict[str, Any]) -> str:
    study = str(row["study"])
    trained, tested = (condition(content, study, str(row[k])) for k in ("baseline", "test_split"))
    phrase = study_phrase(content, study)
    return f"trained {phrase} {trained}, tested {phrase} {tested}"


def _untested(content: ReportContent, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the networks that lose without a tested remedy, with what would test one."""
    import yaml

    found = []
    for (study, baseline), rows in table.groupby(["study", "baseline"], sort=False):
        phrase = study_phrase(content, str(study))
        sets = [condition(content, str(study), str(split)) for split in rows["test_split"]]
        trained = condition(content, str(study), str(baseline))
        blocks = plain(suggested_parameters(content.plan, str(study), str(baseline)))
        text = yaml.safe_dump(blocks, sort_keys=False, default_flow_style=None, width=88)
        found.append(
            {
                "study": content.plan.title(str(study)),
                "network": f"trained {phrase} {trained}, loses {phrase} {', '.join(sets)}",
                "parameters": text,
            }
        )
    return found
