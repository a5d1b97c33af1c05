"""Findings in plain words, each with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from temshift.reporting.content import ReportContent
from temshift.study.explain import ALL_STUDIES, COMPONENTS
from temshift.study.verdicts import (
    LOSSES,
    REFERENCE_WEAK,
    UNDECIDED,
    study_verdict,
    surely_above,
    surest,
)

__all__ = [
    "Check",
    "Headline",
    "both_ways_sentence",
    "condition",
    "dropped",
    "explanation_sentence",
    "first_sentences",
    "flat",
    "headlines",
    "judged_of",
    "limits",
    "number",
    "own_settings",
    "paper_checks",
    "separation_notes",
    "study_phrase",
    "study_transfer",
    "unseen",
    "with_interval",
]


#: In-domain Dice below which a network has not learned its own set well enough to judge shifts.
_IN_DOMAIN = 0.80
#: The same for the hardest sets: particles below 3 nm, and doses below 100 e/Å².
_IN_DOMAIN_HARD, _SMALL_NM, _LOW_DOSE = 0.70, 3.0, 100.0
#: A correlation that chance reaches more often is not spoken of.
_BY_CHANCE = 0.05
#: Nor is a smaller one, be it as sure as it may.
_CLEAR_ORDER = 0.5
#: Gaps that would take more folds lie on the limit of two verdicts.
_MOST_FOLDS = 60
_MANY_FOLDS = f"to decide {{}} would take more than {_MOST_FOLDS} folds, if the estimates stay"


@dataclass(frozen=True)
class Headline:
    """What one study found.

    Attributes
    ----------
    study : str
    title : str
        Its heading.
    verdict : str
        Of its surest loss (:func:`temshift.study.verdicts.study_verdict`).
    text : str
        The surest loss, the one whose interval has the largest lower end, in a sentence without
        its full stop.
    tally : str
        How many shifts break, degrade, are robust, or cannot be decided.
    remedy : str
        What robust training changes there, or empty.
    power : str
        What the study could have seen, and what would decide what is open; or empty.
    caveat : str
        Sentences on what else differs between the study's sets, and on sets that their own network
        has not learned; or empty.
    """

    study: str
    title: str
    verdict: str
    text: str
    tally: str
    remedy: str
    power: str
    caveat: str


@dataclass(frozen=True)
class Check:
    """Whether a finding of the published study is visible in this run.

    Attributes
    ----------
    claim : str
        What the published study found, or what is asked of a sound run.
    status : {"visible", "partly visible", "unclear", "not visible", "not tested"}
    evidence : str
        What this run shows.
    """

    claim: str
    status: str
    evidence: str


# --------------------------------------------------------------------------- numbers and names
def number(value: float, digits: int = 2) -> str:
    """Return ``0.46``, with a true minus sign, or a dash for NaN."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if float(text) == 0 else "−")


def with_interval(estimate: float, low: float, high: float, digits: int = 2) -> str:
    """Return ``0.46 [0.40, 0.51]``; without the brackets where there is no interval."""
    if not np.isfinite([low, high]).all():
        return number(estimate, digits)
    return f"{number(estimate, digits)} [{number(low, digits)}, {number(high, digits)}]"


def study_phrase(content: ReportContent, study: str) -> str:
    """Return the word between "trained" and a condition: ``at`` or ``on``."""
    return _phrase(content, study).partition(" ")[0]


def condition(content: ReportContent, study: str, split: str) -> str:
    """Return what sets a split apart in a study: ``884 e/Å²``, or its name where that is unclear.

    A value is used only if the table gives it and no other split of the study has the same.
    """
    parameters = content.plan.studies[study]
    if split not in parameters.splits:
        return split
    values = [content.value(s, parameters.varies) for s in parameters.splits]
    value = content.value(split, parameters.varies)
    return value if value and values.count(value) == 1 else split


# --------------------------------------------------------------------------- findings
def first_sentences(content: ReportContent) -> list[tuple[str, str]]:
    """Answer the title of the report: what breaks a network, what degrades it, what stays open.

    A shift is only named as a loss if it is one by its bounds and surely above the limit, whichever
    of the comparisons of the run are looked at (:func:`temshift.study.verdicts.surely_above`).

    Returns
    -------
    list of (verdict, sentence)
        ``breaks``, ``degrades`` and ``undecided``; empty without any comparison.
    """
    tables = [content.default_gaps(study) for study in content.plan.studies]
    tables = [table for table in tables if len(table)]
    if not tables:
        return []
    gaps = pd.concat(tables)
    total = len(gaps)
    degrades, breaks = content.reporting.degrades_above, content.reporting.breaks_above
    breaking = gaps[surely_above(gaps, breaks, content.reporting)]
    above = gaps[surely_above(gaps, degrades, content.reporting)]
    degrading = above[~above.index.isin(breaking.index)]
    either = int((degrading["verdict"] != "degrades").sum())
    shifts = f"{total} shifts" if total > 1 else "one shift"
    if len(breaking):
        first = (
            f"{len(breaking)} of {shifts} surely {_verb(len(breaking), 'break')} a network (loss "
            f"above {breaks:g} Dice): {_named_shift(content, breaking)}."
        )
    else:
        judged = int((gaps["reason"].fillna("") == "").sum())
        of = f"{total}" if judged == total else f"the {judged} of {total} that can be judged"
        first = f"No shift of {of} is sure to break a network (loss above {breaks:g} Dice)."
        if not judged:
            first = f"No shift can be judged ({total} of them): networks failed or are no standard."
    if len(degrading):
        more = f", {either} of them perhaps more than that" if either else ""
        second = (
            f"{len(degrading)} surely {_verb(len(degrading), 'degrade')} one (loss above "
            f"{degrades:g} Dice){more}: {_named_shift(content, degrading)}."
        )
    else:
        second = f"No {'other ' if len(breaking) else ''}shift surely degrades one."
    return [("breaks", first), ("degrades", second), (UNDECIDED, _open_sentence(content, gaps))]


def _open_sentence(content: ReportContent, gaps: pd.DataFrame) -> str:
    """Say how many shifts stay between two classes, and what would decide them."""
    open_ = gaps[~gaps["verdict"].isin(["robust", "degrades", "breaks"])]
    if open_.empty:
        return f"Every one of the {len(gaps)} shifts has a verdict of one class."
    text = f"{len(open_)} of {len(gaps)} {_verb(len(open_), 'stay')} between two classes or open"
    unjudged = int((open_["reason"] != "").sum())
    if unjudged:
        text += f" ({unjudged} because a network failed or is no standard)"
    if unjudged == len(open_):
        return f"{text}."
    near = open_[open_["folds_to_decide"] <= _MOST_FOLDS]
    if near.empty:
        if open_["folds_to_decide"].notna().any():
            return f"{text}; {_MANY_FOLDS.format('them')}."
        return f"{text}; what would decide them cannot be told."
    near = near.sort_values("folds_to_decide", kind="stable")
    few, many = _folds(content, near.iloc[0]), _folds(content, near.iloc[-1])
    needed = f"about {few}" if few == many else f"{few} (the first) to {many} (the last)"
    return (
        f"{text}; {len(near)} of them would be decided by {needed}, if the estimates stay, and "
        f"networks and {content.unit}s vary as now."
    )


def _named_shift(content: ReportContent, gaps: pd.DataFrame) -> str:
    """Name the surest of several shifts, and the studies of the others."""
    row = surest(gaps)
    named = _lower(_shift(content, str(row["study"]), row)).partition(" (the network")[0]
    others = [content.plan.title(s) for s in _once(gaps.drop(row.name)["study"])]
    if not others:
        return named
    return f"most surely, {named}; the others are in {_listed([_lower(o) for o in others])}"


def _verb(count: int, verb: str) -> str:
    return verb if count != 1 else f"{verb}s"


def headlines(content: ReportContent) -> list[Headline]:
    """Return one finding a study, the worst first, equals by their surest loss."""
    severity = [*LOSSES, UNDECIDED, REFERENCE_WEAK, "robust or degrades", "robust"]

    def place(finding: Headline) -> tuple[int, float]:
        gaps = content.default_gaps(finding.study)
        low = surest(judged if len(judged := judged_of(gaps)) else gaps)["low"]
        return severity.index(finding.verdict), -float(low) if np.isfinite(low) else 0.0

    return sorted(_headlines(content), key=place)


def _headlines(content: ReportContent) -> list[Headline]:
    found = []
    for study in content.plan.studies:
        gaps = content.default_gaps(study)
        if gaps.empty:
            continue
        judged = judged_of(gaps)
        found.append(
            Headline(
                study=study,
                title=content.plan.title(study),
                verdict=study_verdict(gaps, content.reporting),
                text=_finding(content, study, gaps),
                tally=_tally(gaps),
                remedy=_remedy(content, study, surest(judged)) if len(judged) else "",
                power=_power(content, judged),
                caveat=_caveat(content, study),
            )
        )
    return found


def _finding(content: ReportContent, study: str, gaps: pd.DataFrame) -> str:
    """Say what the surest loss is, or that none is sure."""
    judged = judged_of(gaps)
    if judged.empty:
        return "No shift can be judged: networks failed, or those of the test sets are no standard"
    limit = content.reporting.degrades_above
    if (judged["verdict"] == "robust").all():
        nearest = judged.sort_values("high", kind="stable").iloc[-1]
        shifts = "shift" if len(judged) == len(gaps) else "shift that can be judged"
        return (
            f"No {shifts} costs more than {limit:g} Dice; nearest to it: "
            f"{_lower(_shift(content, study, nearest))}"
        )
    row = surest(judged)
    text = _shift(content, study, row)
    if not row["low"] > 0:
        return f"No loss is sure; nearest to one: {_lower(text)}"
    if not row["p_holm"] <= 1 - content.reporting.confidence:
        text += (
            f"; among {len(content.study_gaps(study))} comparisons that may be chance "
            f"(p = {number(row['p_holm'])}, corrected for their number)"
        )
    return text


def _shift(content: ReportContent, study: str, gap: pd.Series) -> str:
    """Return ``A network trained at 884 e/Å² loses 0.46 [0.40, 0.51] Dice at 80 e/Å² …``."""
    phrase = _phrase(content, study)
    trained = phrase.format(condition(content, study, str(gap["network"])))
    tested = phrase.format(condition(content, study, str(gap["test_split"])))
    own = f"the network trained there reaches {number(gap['reference_dice'])}"
    if gap["gap"] < 0:
        gain = with_interval(-gap["gap"], -gap["high"], -gap["low"])
        return f"A network trained {trained} gains {gain} Dice {tested} ({own})"
    loss = with_interval(gap["gap"], gap["low"], gap["high"])
    return f"A network trained {trained} loses {loss} Dice {tested} ({own})"


def judged_of(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the shifts that could be judged: no network failed, each reference is a standard."""
    return gaps[gaps["reason"].fillna("") == ""]


def _power(content: ReportContent, judged: pd.DataFrame) -> str:
    """Say which loss the study would have seen, and what would decide its open shifts."""
    if judged.empty:
        return ""
    seen = judged["detectable"].dropna()
    if seen.empty:
        return "A single fold or group does not say how much Dice varies: nothing can be told."
    low, middle, high = (number(v) for v in (seen.min(), seen.median(), seen.max()))
    span = f" (the median of its shifts, from {low} to {high})" if low != high else ""
    text = f"This study would see a loss of {middle} Dice in four of five repetitions{span}."
    open_ = judged[judged["folds_to_decide"].notna()]
    if open_.empty:
        return text
    near = open_[open_["folds_to_decide"] <= _MOST_FOLDS]
    count = len(open_)
    shifts = f"{count} open shift{'s' if count > 1 else ''}"
    if near.empty:
        return f"{text} {_upper(_MANY_FOLDS.format(f'the {shifts}'))}."
    near = near.sort_values("folds_to_decide", kind="stable")
    few, many = near.iloc[0], near.iloc[-1]
    needed = _folds(content, few)
    if few["folds_to_decide"] < many["folds_to_decide"]:
        needed += f" for the first, {_folds(content, many)} for the last"
    text += f" To decide {'its' if len(near) == count else f'{len(near)} of its'} {shifts} "
    text += f"would take about {needed}, if estimates and scatter stay as they are."
    if len(near) < count:
        rest = count - len(near)
        text += f" {rest} {'lie' if rest > 1 else 'lies'} too near to a limit for that."
    return text


def _folds(content: ReportContent, gap: pd.Series) -> str:
    folds = int(gap["folds_to_decide"])
    groups = math.ceil(folds * gap["n_groups"] / gap["n_folds"])
    return f"{folds} folds with {groups} {content.unit}s"


def _tally(gaps: pd.DataFrame) -> str:
    """Return ``Of 6 shifts, 4 break, 1 degrades, 1 is robust``."""
    words = {
        "breaks": ("breaks", "break"),
        "degrades or breaks": ("degrades or breaks", "degrade or break"),
        "degrades": ("degrades", "degrade"),
        "robust or degrades": ("is robust or degrades", "are robust or degrade"),
        "robust": ("is robust", "are robust"),
        "undecided": ("is undecided", "are undecided"),
        REFERENCE_WEAK: ("has a weak reference", "have a weak reference"),
    }
    counts = Counter(gaps["verdict"])
    parts = [f"{counts[v]} {few[counts[v] > 1]}" for v, few in words.items() if counts[v]]
    each = " (each by its own bounds)" if any(counts[verdict] for verdict in LOSSES) else ""
    return f"Of {len(gaps)} shifts, {', '.join(parts)}{each}" if len(gaps) > 1 else ""


def _remedy(content: ReportContent, study: str, worst: pd.Series) -> str:
    """Return what the surest further network gains where the study's surest loss is."""
    gains = content.gains
    gains = gains[
        (gains["study"] == study)
        & (gains["protocol"] == content.protocol)
        & (gains["baseline"] == worst["network"])
        & (gains["test_split"] == worst["test_split"])
        & (gains["reason"] == "")
    ]
    if gains.empty:
        return ""
    best = surest(gains, "gain")
    gain = with_interval(best["gain"], best["low"], best["high"])
    home = content.gains[
        (content.gains["study"] == study)
        & (content.gains["protocol"] == content.protocol)
        & (content.gains["network"] == best["network"])
        & (content.gains["baseline"] == best["baseline"])
        & (content.gains["test_split"] == best["baseline"])
    ]
    text = f"{best['network']} changes Dice there by {_signed(gain)}, to {number(best['dice'])}"
    if len(home):
        h = home.iloc[0]
        change = with_interval(h["gain"], h["low"], h["high"])
        text += f", and its own condition by {_signed(change)}, to {number(h['dice'])}"
    return text


def _caveat(content: ReportContent, study: str) -> str:
    """Return which networks failed, and what else the sets of a study differ in."""
    caveats = []
    gaps = content.default_gaps(study)
    for split, rows in gaps[gaps["verdict"] == REFERENCE_WEAK].groupby("test_split", sort=False):
        tested = _phrase(content, study).format(condition(content, study, str(split)))
        caveats.append(f"Losses {tested} are not judged: {rows['reason'].iloc[0]}.")
    failed = gaps[(gaps["verdict"] != REFERENCE_WEAK) & (gaps["reason"].fillna("") != "")]
    caveats += [
        f"{_upper(reason)}: its losses are not judged." for reason in _once(failed["reason"])
    ]
    weak = [s for s in content.plan.studies[study].splits if s in _weak_splits(content)]
    if weak:
        own = [f"{number(_own(content, s)['dice'])} on {s}" for s in weak]
        caveats.append(f"In-domain Dice is only {_listed(own)}: verdicts on these sets say little.")
    caveats += _trained_unlike(content, study)
    confounds = content.confounds
    differing = dict.fromkeys(confounds.loc[confounds["study"] == study, "column"])
    columns = [content.plan.columns[column].title for column in differing]
    if columns:
        caveats.append(
            f"These sets also differ in {_listed(columns)}, which may be what costs the Dice."
        )
    return " ".join(caveats)


def own_settings(content: ReportContent, network: str) -> str:
    """Return what a network is trained with in place of the defaults, in a line, or nothing."""
    own = content.plan.networks.get(network)
    if own is None:
        return ""
    blocks = {key: getattr(own, key) for key in ("architecture", "training", "augmentation")}
    start = {key: getattr(own, key) for key in ("initial", "freeze") if own.initial}
    return flat({key: value for key, value in {**blocks, **start}.items() if value})


def flat(block: Mapping[str, Any], path: str = "") -> str:
    """Return nested parameters in a line: ``augmentation.noise.rho_max 1.75``."""
    return ", ".join(
        flat(value, f"{path}{key}.") if isinstance(value, dict) else f"{path}{key} {value}"
        for key, value in block.items()
    )


def _trained_unlike(content: ReportContent, study: str) -> list[str]:
    """Say which sets' own networks are trained with other settings than the rest of a study."""
    settings = {split: own_settings(content, split) for split in content.plan.studies[study].splits}
    if len(set(settings.values())) < 2:
        return []
    named = [f"{split} ({own})" for split, own in settings.items() if own]
    return [
        f"Networks are not trained alike: {_listed(named)}. What that brings is part of the losses "
        "to and from there."
    ]


def _signed(text: str) -> str:
    return text if text.startswith(("−", "–")) else f"+{text}"


def _phrase(content: ReportContent, study: str) -> str:
    column = content.plan.columns.get(content.plan.studies[study].varies)
    return column.phrase if column else "on {}"


# --------------------------------------------------------------------------- there and back
def study_transfer(content: ReportContent, study: str) -> pd.DataFrame:
    """Return the rows of ``transfer.csv`` of a study, under the protocol of the sentences."""
    t = content.transfer
    return t[(t["study"] == study) & (t["protocol"] == content.protocol)]


def both_ways_sentence(content: ReportContent, study: str) -> str:
    """Say how many pairs of a study are shown to be harder one way; empty without a pair."""
    table = study_transfer(content, study)
    told = table[table["direction"] != ""]
    pairs = len(told) // 2  # a pair has two rows
    if table.empty:
        return ""
    if not pairs:
        return "Whether one way is harder than the other cannot be told here: no interval is known."
    harder = told[told["direction"] == "harder"]
    harder = harder.sort_values(["p_value", "asymmetry"], ascending=[True, False], kind="stable")
    of = f"{pairs} pairs of image sets" if pairs > 1 else "the one pair of image sets"
    if harder.empty:
        return f"In none of {of} is one way shown to be harder than the other."
    first = harder.iloc[0]
    a, b = (condition(content, study, str(first[key])) for key in ("train_on", "test_split"))
    excess = with_interval(first["asymmetry"], first["low"], first["high"])
    return (
        f"In {len(harder)} of {of} one way is shown to be harder{_most(len(harder))}: "
        f"from {a} to {b} a network loses {excess} Dice more than from {b} to {a}."
    )


def _most(count: int) -> str:
    return ", most surely" if count > 1 else ""


# --------------------------------------------------------------------------- why
def explanation_sentence(content: ReportContent, scope: str = ALL_STUDIES) -> str:
    """Say which fingerprint distances go along with the gaps, as carefully as they allow."""
    e = content.explanation
    e = e[(e["scope"] == scope) & (e["protocol"] == content.protocol)].dropna(subset=["rho"])
    if e.empty:
        few = "Too few pairs of image sets to say what goes along with the losses."
        return few if scope == ALL_STUDIES else ""
    e = e.sort_values("rho", ascending=False)
    best = e.iloc[0]
    pairs = f"over {int(e['n_pairs'].max())} pairs of image sets"
    found = (
        f"{COMPONENTS[best['component']]}, Spearman’s ρ = {number(best['rho'])}, "
        f"p = {number(best['p_value'])}"
    )
    if not best["p_value"] <= _BY_CHANCE:
        return (
            f"No component orders the losses better than chance may ({pairs}; the best is {found})."
        )
    if best["rho"] < _CLEAR_ORDER:
        return (
            f"No component orders the losses clearly, by a ρ of {_CLEAR_ORDER:g} or more ({pairs}; "
            f"the best is {found})."
        )
    close = [
        f"{COMPONENTS[row['component']]} (ρ = {number(row['rho'])})"
        for _, row in e[(e["rho"] >= best["rho"] - 0.1) & (e["p_value"] <= _BY_CHANCE)]
        .head(4)
        .iterrows()
    ]
    text = (
        f"The losses are ordered best by the distance in {_listed(close)}, {pairs} "
        f"(p = {number(best['p_value'], 3)}, corrected for the number of components)."
    )
    if scope != ALL_STUDIES:
        return text
    return (
        f"{text} This says what goes along with a loss, not what causes it: components change "
        "together, and the pairs are not independent."
    )


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# --------------------------------------------------------------------------- the published study
def paper_checks(content: ReportContent) -> list[Check]:
    """Return whether this run shows what the published study found, computed from its results."""
    return [
        _dose_check(content),
        _magnification_check(content),
        _material_check(content),
        _in_domain_check(content),
    ]


def _dose_check(content: ReportContent) -> Check:
    claim = "Networks trained at a high electron dose lose much at a low one (884 → 80 e/Å²)."
    for study in content.studies_of("dose_e_per_A2"):
        dose = _numbers(content, study)
        if len(dose) < 2:
            continue
        high, low = dose.idxmax(), dose.idxmin()
        gaps = content.default_gaps(study)
        row = gaps[(gaps["network"] == high) & (gaps["test_split"] == low)]
        if len(row):
            gap = row.iloc[0]
            status = "partly visible" if gap["verdict"] in LOSSES else "unclear"
            if gap["verdict"] == "breaks":  # the loss is surely a large one
                status = "visible"
            if not gap["reason"] and gap["high"] < content.reporting.degrades_above:
                status = "not visible"
            return Check(claim, status, f"{_shift(content, study, gap)}: {gap['verdict']}.")
    return Check(claim, "not tested", "No study of this run varies the dose.")


def _magnification_check(content: ReportContent) -> Check:
    claim = "Networks lose away from the pixel size they were trained at (off the diagonal)."
    for study in content.studies_of("pixel_size_nm"):
        gaps = content.default_gaps(study)
        if gaps.empty:
            continue
        sure = gaps["p_holm"] <= 1 - content.reporting.confidence
        lost = sure & (gaps["gap"] > content.reporting.degrades_above) & (gaps["reason"] == "")
        drops = int(lost.sum())
        status = "visible" if drops >= len(gaps) / 2 else "partly visible"
        if not drops:
            status = "not visible" if (gaps["verdict"] == "robust").all() else "unclear"
        return Check(
            claim,
            status,
            f"{drops} of {len(gaps)} cells off the diagonal surely lose Dice, more than "
            f"{content.reporting.degrades_above:g} by their estimate (p ≤ "
            f"{1 - content.reporting.confidence:.2g}, corrected for their number). "
            f"{_finding(content, study, gaps)}.",
        )
    return Check(claim, "not tested", "No study of this run varies the pixel size.")


def _material_check(content: ReportContent) -> Check:
    claim = "Gaps across materials are small."
    for study in content.studies_of("material"):
        gaps = content.default_gaps(study)
        if gaps.empty:
            continue
        losses = gaps["verdict"].isin(LOSSES)
        sure = surely_above(gaps, content.reporting.degrades_above, content.reporting)
        robust = gaps["verdict"] == "robust"
        if robust.all():
            status = "visible"
        elif sure.any():
            status = "partly visible" if robust.any() else "not visible"
        else:
            status = "unclear"
        return Check(
            claim,
            status,
            f"{int(robust.sum())} of {len(gaps)} are robust (below "
            f"{content.reporting.degrades_above:g} Dice, as far as their bounds say), in "
            f"{int(losses.sum())} a network degrades or breaks (each by its own bounds; "
            f"{int(sure.sum())} surely, whichever are looked at). "
            f"{_finding(content, study, gaps)}.",
        )
    return Check(claim, "not tested", "No study of this run varies the material.")


def _in_domain_check(content: ReportContent) -> Check:
    claim = (
        f"Every network has learned its own set: in-domain Dice at least {number(_IN_DOMAIN)} "
        f"({number(_IN_DOMAIN_HARD)} below {_SMALL_NM:g} nm or {_LOW_DOSE:g} e/Å²)."
    )
    own = [str(s) for s in content.splits.index if content.cell(str(s), str(s)) is not None]
    if not own:
        return Check(claim, "not tested", "No network was tested on its own set.")
    weak = _weak_splits(content)
    if weak:
        cells = [(s, _own(content, s)) for s in weak]
        named = [f"{s} ({with_interval(c['dice'], c['low'], c['high'])})" for s, c in cells]
        return Check(
            claim,
            "partly visible" if len(weak) < len(own) else "not visible",
            f"Not so for {_listed(named)}: gaps to and from these sets say little.",
        )
    if failed := _failed_own(content, own):
        return Check(
            claim,
            "partly visible" if len(failed) < len(own) else "not visible",
            f"Its mean Dice is reached, but a fold has not learned: {_listed(failed)} (see "
            "Training).",
        )
    lowest = min(own, key=lambda s: float(_own(content, s)["dice"]))
    dice = number(_own(content, lowest)["dice"])
    return Check(claim, "visible", f"The lowest is {dice}, on {lowest}.")


def _failed_own(content: ReportContent, splits: list[str]) -> list[str]:
    """Return the splits of whose own network a fold has not learned."""
    results = content.results
    failed = results[~results["learned"].astype(bool)]
    return [s for s in splits if (failed["network"] == s).any()]


def _weak_splits(content: ReportContent) -> list[str]:
    """Return the splits whose own network has not learned them."""
    return [
        str(split)
        for split in content.splits.index
        if (cell := content.cell(str(split), str(split))) is not None
        and cell["dice"] < _demanded(content, str(split))
    ]


def _own(content: ReportContent, split: str) -> pd.Series:
    """Return the cell of a split's own network."""
    cell = content.cell(split, split)
    if cell is None:
        raise ValueError(f"the network of {split!r} was not tested on its own split")
    return cell


def _demanded(content: ReportContent, split: str) -> float:
    """Return the in-domain Dice that is asked of a split."""
    hard = (
        content.range_of(split, "diameter_nm")[0] < _SMALL_NM
        or content.range_of(split, "dose_e_per_A2")[0] < _LOW_DOSE
    )
    return _IN_DOMAIN_HARD if hard else _IN_DOMAIN


def _numbers(content: ReportContent, study: str) -> pd.Series:
    """Return the smallest number of the varied column in each split, where there is one."""
    parameters = content.plan.studies[study]
    values = {s: content.range_of(s, parameters.varies)[0] for s in parameters.splits}
    return pd.Series(values, dtype=float).dropna()


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _once(values: pd.Series) -> list[str]:
    return list(dict.fromkeys(values.astype(str)))


# --------------------------------------------------------------------------- training and test
def unseen(content: ReportContent) -> str:
    """Return what a network was tested on: ``specimens that it has not seen``, if that is so."""
    if content.protocol != "grouped":
        return "patches that it was not trained on"
    if content.curation.group_by == "specimen_id" and not content.separation.holds:
        return "micrographs that it has not seen"
    if content.curation.group_by == "session" and content.separation.ungrouped:
        return "micrographs that it has not seen"
    return f"{content.unit}s that it has not seen"


def separation_notes(content: ReportContent) -> list[str]:
    """Say where training and test are not of different specimens, as far as the data tell."""
    notes = []
    if "grouped" in content.protocols:
        apart = content.separation
        if apart.divided:
            notes.append(
                f"{apart.divided} of {apart.specimens} specimens have micrographs on both sides, "
                "in training and in test: how networks do on a new specimen is not known from "
                "them, and losses may be larger there."
            )
        if apart.ungrouped and content.curation.group_by == "session":
            notes.append(
                f"{apart.ungrouped} of {apart.micrographs} micrographs name no session, and each "
                "of them is kept apart by itself only: another of its session may be in training."
            )
        if apart.unnamed:
            which = (
                f"{apart.unnamed} of {apart.micrographs} micrographs name no specimen"
                if apart.unnamed < apart.micrographs
                else "No specimen is named"
            )
            notes.append(
                f"{which}: each such micrograph counts as independent. Where several show one "
                "specimen, networks have met it in training, and intervals are too narrow."
            )
    if content.protocol == "published":
        notes.append(
            "Patches of one micrograph stand in training and in test (protocol published): how "
            "networks do on a new micrograph of their own set is not known from this."
        )
    return notes


# --------------------------------------------------------------------------- to be signed
def limits(content: ReportContent) -> list[str]:
    """Say what this study cannot tell: only what is true of it."""
    found = []
    if content.simulated:
        all_of_them = len(content.simulated) == len(content.splits)
        found.append(
            f"{'All' if all_of_them else 'Some'} micrographs are simulated: what holds for them "
            "need not hold for a real microscope."
        )
    found += separation_notes(content)
    for column in ("session", "instrument"):
        values = _different(content, column)
        unnamed = _of_unknown(content, column)
        if len(values) == 1 and not unnamed:
            found.append(
                f"All sets come from one {column}, {values[0]}: what changes between "
                f"{column}s is in no interval."
            )
        elif len(values) == 1:
            found.append(
                f"The only {column} that is named is {values[0]}, and {unnamed} of "
                f"{len(content.splits)} sets name none: what changes between {column}s cannot be "
                "told."
            )
        elif not values:
            found.append(f"No {column} is named: what changes between {column}s cannot be told.")
    confounded = [
        content.plan.title(name)
        for name in content.plan.studies
        if (content.confounds["study"] == name).any()
    ]
    if confounded:
        found.append(
            f"In {_listed(confounded)} more than the studied property differs between the sets: "
            "a loss there may come from that."
        )
    unlike = [content.plan.title(s) for s in content.plan.studies if _trained_unlike(content, s)]
    if unlike:
        found.append(
            f"In {_listed(unlike)} the networks of the sets are not trained alike: a loss there "
            "may come from that."
        )
    gaps = pd.concat([content.default_gaps(study) for study in content.plan.studies])
    weak = gaps[gaps["reason"] != ""]
    if len(weak):
        found.append(
            f"{len(weak)} of {len(gaps)} shifts are not judged, because a network failed or is no "
            "standard."
        )
    found.append(
        "Dice judges the area of particles: whether two that touch are told apart, and how sizes "
        "come out, it does not say."
    )
    found.append("Correlations say what goes along with a loss, not what causes it.")
    return found


def _different(content: ReportContent, column: str) -> list[str]:
    """Return the known values of a column of text over all sets."""
    if column not in content.splits:
        return []
    joined = content.splits[column].fillna("").astype(str)
    return sorted({value for text in joined for value in text.split(", ") if value})


def _of_unknown(content: ReportContent, column: str) -> int:
    """Return how many sets have no known value of a column of text."""
    if column not in content.splits:
        return len(content.splits)
    return int((content.splits[column].fillna("").astype(str) == "").sum())


def dropped(content: ReportContent) -> list[str]:
    """Say what was left out, and started again, between the micrographs and the results."""
    found = []
    results = content.results
    for split in content.splits.index:
        tested = results.loc[results["test_split"] == split, "micrograph_id"].nunique()
        held = int(content.splits.loc[split, "n_micrographs"])
        if tested < held:
            found.append(f"{held - tested} of {held} micrographs of {split} were never tested.")
    restarts = (
        content.histories.groupby(["network", "protocol", "fold"])["restart"].max()
        if len(content.histories)
        else pd.Series(dtype=int)
    )
    if again := int((restarts > 0).sum()):
        found.append(f"{again} of {len(restarts)} trainings were started again from another seed.")
    learned = results.groupby(["network", "protocol", "fold"])["learned"].all()
    if failed := int((~learned.astype(bool)).sum()):
        found.append(f"{failed} of {len(learned)} networks have not learned; see Training.")
    return found
