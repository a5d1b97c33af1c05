"""The schema of ``results.json``: what programs may rely on.

It is published as ``results.schema.json``, beside this module and in ``docs/reference``;
``python -m temshift.reporting.schema FILE`` writes it again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["SCHEMA_VERSION", "Results", "results_schema"]

#: Raised where a program that reads an older file would no longer understand a newer one.
SCHEMA_VERSION = 1

Number = float | None
#: A share, 0 … 1.
Share = Annotated[float, Field(ge=0, le=1)] | None
Count = Annotated[int, Field(ge=0)]
Verdict = Literal[
    "robust",
    "robust or degrades",
    "degrades",
    "degrades or breaks",
    "breaks",
    "undecided",
    "reference weak",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Open(BaseModel):
    """A row to which metadata come as further columns."""

    model_config = ConfigDict(extra="allow")


class Thresholds(_Strict):
    """Losses of Dice between robust, degrades and breaks."""

    degrades_above: float
    breaks_above: float


class Answer(_Strict):
    """One of the first sentences of the report."""

    verdict: Verdict
    sentence: str


class Finding(_Strict):
    """What one study found; see :class:`temshift.reporting.sentences.Headline`."""

    study: str
    title: str
    verdict: Verdict
    text: str
    tally: str
    remedy: str
    power: str
    caveat: str


class PublishedFinding(_Strict):
    """Whether a finding of the published study is visible."""

    claim: str
    status: Literal["visible", "partly visible", "unclear", "not visible", "not tested"]
    evidence: str


class SplitRow(_Open):
    """An image set; its metadata come as further columns."""

    split: str
    n_micrographs: Count
    n_groups: Count
    n_patches: Count
    labelled_share: Share
    protocol: str
    dice: Share
    low: Number
    high: Number


class MatrixRow(_Strict):
    """A cell of a matrix: one network on one image set, in one study."""

    study: str
    protocol: str
    network: str
    train_on: str
    test_split: str
    in_domain: bool
    n_folds: Count
    n_groups: Count
    n_micrographs: Count
    n_patches: Count
    dice: Share
    low: Number
    high: Number
    standard_error: Number
    df: Number
    fold_std: Number
    precision: Share
    recall: Share
    mean_certainty: Share


class GapRow(_Strict):
    """The loss of a network against the in-domain network of the test set."""

    study: str
    protocol: str
    network: str
    train_on: str
    test_split: str
    reference: str
    reference_protocol: str
    n_folds: Count
    n_groups: Count
    dice: Share
    reference_dice: Share
    gap: Number
    low: Number
    high: Number
    standard_error: Number
    df: Number
    p_value: Share
    p_holm: Share
    detectable: Number
    bound_low: Number
    bound_high: Number
    verdict: Verdict
    reason: str
    point_verdict: Verdict
    folds_to_decide: Number


class GainRow(_Strict):
    """What a further network gains over the default network of the same training set."""

    study: str
    protocol: str
    network: str
    baseline: str
    test_split: str
    n_folds: Count
    n_groups: Count
    dice: Share
    baseline_dice: Share
    gain: Number
    low: Number
    high: Number
    standard_error: Number
    df: Number
    p_value: Share
    p_holm: Share
    detectable: Number
    reason: str


class RemedyRow(_Strict):
    """What a remedy helps where a network loses, what it costs at home, what is left of the loss.

    Without a ``remedy``, ``suggestion`` says which parameters would test one.
    """

    study: str
    protocol: str
    baseline: str
    test_split: str
    verdict: Verdict
    gap: Number
    gap_low: Number
    gap_high: Number
    n_folds: Number
    n_groups: Number
    remedy: str
    before: Share
    before_low: Number
    before_high: Number
    after: Share
    after_low: Number
    after_high: Number
    gain: Number
    gain_low: Number
    gain_high: Number
    p_value: Share
    p_holm: Share
    effect: str
    reason: str
    cost: Number
    cost_low: Number
    cost_high: Number
    left: Number
    left_low: Number
    left_high: Number
    suggestion: str


class TransferRow(_Strict):
    """What a set's own network loses on another set, and how much harder that is than the way back.

    ``direction`` is empty, and the numbers are ``null``, where it cannot be said.
    """

    study: str
    protocol: str
    train_on: str
    test_split: str
    n_folds: Count
    n_groups: Count
    own_dice: Share
    g_id: Number
    g_id_low: Number
    g_id_high: Number
    dice: Share
    g_ood: Number
    g_ood_low: Number
    g_ood_high: Number
    gap: Number
    reverse_gap: Number
    asymmetry: Number
    low: Number
    high: Number
    standard_error: Number
    df: Number
    p_value: Share
    p_holm: Share
    direction: Literal["harder", "easier", "not shown", ""]


class ConfoundRow(_Strict):
    """A column of the metadata that differs between the sets of a study."""

    study: str
    varies: str
    column: str
    split: str
    value: str | None
    min: Number
    max: Number


class ExplanationRow(_Strict):
    """How well the distance in one component of the fingerprints orders the losses."""

    scope: str
    protocol: str
    component: str
    n_pairs: Count
    n_distances: Count
    rho: Annotated[float, Field(ge=-1, le=1)] | None
    p_value: Share


class Results(_Strict):
    """``results.json``: findings, checks and all tables of a study; not known is ``null``."""

    schema_version: Literal[1]
    version: str
    simulated_splits: list[str]
    protocols: list[str]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    thresholds: Thresholds
    answers: list[Answer]
    findings: list[Finding]
    published_findings: list[PublishedFinding]
    splits: list[SplitRow]
    matrix: list[MatrixRow]
    gaps: list[GapRow]
    gains: list[GainRow]
    remedies: list[RemedyRow]
    transfer: list[TransferRow]
    confounds: list[ConfoundRow]
    explanation: list[ExplanationRow]


def results_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "results.schema.json",
        **Results.model_json_schema(),
    }


def _main() -> None:
    text = json.dumps(results_schema(), indent=1, ensure_ascii=False)
    Path(sys.argv[1]).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    _main()
