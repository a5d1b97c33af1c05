"""Findings in plain words, each with its interval."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from temshift.reporting.content import ReportContent
from temshift.study.explain import ALL_STUDIES, COMPONENTS

__all__ = [
    "Check",
    "Headline",
    "condition",
    "explanation_sentence",
    "headlines",
    "number",
    "paper_checks",
    "study_phrase",
    "with_interval",
]


#: In-domain Dice below which a network has not learned its own set well enough to judge shifts.
_IN_DOMAIN = 0.80
#: The same for the hardest sets: particles below 3 nm, and doses below 100 e/Å².
_IN_DOMAIN_HARD, _SMALL_NM, _LOW_DOSE = 0.70, 3.0, 100.0


@dataclass(frozen=True)
class Headline:
    """What one study found.

    Attributes
    ----------
    study : str
    title : str
        Its heading.
    verdict : str
        Of its worst shift.
    text : str
        The worst shift, in a sentence without its full stop.
    tally : str
        How many shifts break, degrade, are robust, or cannot be decided.
    remedy : str
        What robust training changes in the worst shift, or empty.
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
def headlines(content: ReportContent) -> list[Headline]:
    """Return one finding a study, in the order of the studies."""
    found = []
    for study in content.plan.studies:
        gaps = content.default_gaps(study)
        if gaps.empty:
            continue
        worst = _largest(gaps, "gap")
        found.append(
            Headline(
                study=study,
                title=content.plan.title(study),
                verdict=str(worst["verdict"]),
                text=_shift(content, study, worst),
                tally=_tally(gaps),
                remedy=_remedy(content, study, worst),
                caveat=_caveat(content, study),
            )
        )
    return found


def _shift(content: ReportContent, study: str, gap: pd.Series) -> str:
    """Return ``A network trained at 884 e/Å² loses 0.46 [0.40, 0.51] Dice at 80 e/Å² …``."""
    phrase = _phrase(content, study)
    trained = phrase.format(condition(content, study, str(gap["network"])))
    tested = phrase.format(condition(content, study, str(gap["test_split"])))
    own = f"the network trained there reaches {number(gap['reference_dice'])}"
    if gap["gap"] < 0:
        gain = with_interval(-gap["gap"], -gap["high"], -gap["low"])
        return f"No network loses Dice; one trained {trained} gains {gain} {tested} ({own})"
    loss = with_interval(gap["gap"], gap["low"], gap["high"])
    return f"A network trained {trained} loses {loss} Dice {tested} ({own})"


def _tally(gaps: pd.DataFrame) -> str:
    """Return ``Of 6 shifts, 4 break, 1 degrades, 1 is robust``."""
    words = {
        "breaks": ("breaks", "break"),
        "degrades or breaks": ("degrades or breaks", "degrade or break"),
        "degrades": ("degrades", "degrade"),
        "robust or degrades": ("is robust or degrades", "are robust or degrade"),
        "robust": ("is robust", "are robust"),
        "undecided": ("is undecided", "are undecided"),
    }
    counts = Counter(gaps["verdict"])
    parts = [f"{counts[v]} {few[counts[v] > 1]}" for v, few in words.items() if counts[v]]
    return f"Of {len(gaps)} shifts, {', '.join(parts)}" if len(gaps) > 1 else ""


def _remedy(content: ReportContent, study: str, worst: pd.Series) -> str:
    """Return what the best further network gains where the study's worst shift is."""
    gains = content.gains
    gains = gains[
        (gains["study"] == study)
        & (gains["protocol"] == content.protocol)
        & (gains["baseline"] == worst["network"])
        & (gains["test_split"] == worst["test_split"])
    ]
    if gains.empty:
        return ""
    best = _largest(gains, "gain")
    gain = with_interval(best["gain"], best["low"], best["high"])
    home = content.gains[
        (content.gains["study"] == study)
        & (content.gains["protocol"] == content.protocol)
        & (content.gains["network"] == best["network"])
        & (content.gains["test_split"] == best["baseline"])
    ]
    text = f"{best['network']} changes Dice there by {_signed(gain)}, to {number(best['dice'])}"
    if len(home):
        h = home.iloc[0]
        change = with_interval(h["gain"], h["low"], h["high"])
        text += f", and its own condition by {_signed(change)}, to {number(h['dice'])}"
    return text


def _caveat(content: ReportContent, study: str) -> str:
    """Return what else the sets of a study differ in, and which of them were not learned."""
    caveats = []
    weak = [s for s in content.plan.studies[study].splits if s in _weak_splits(content)]
    if weak:
        own = [f"{number(_own(content, s)['dice'])} on {s}" for s in weak]
        caveats.append(f"In-domain Dice is only {_listed(own)}: verdicts on these sets say little.")
    confounds = content.confounds
    differing = dict.fromkeys(confounds.loc[confounds["study"] == study, "column"])
    columns = [content.plan.columns[column].title for column in differing]
    if columns:
        caveats.append(
            f"These sets also differ in {_listed(columns)}, which may be what costs the Dice."
        )
    return " ".join(caveats)


def _signed(text: str) -> str:
    return text if text.startswith(("−", "–")) else f"+{text}"


def _phrase(content: ReportContent, study: str) -> str:
    column = content.plan.columns.get(content.plan.studies[study].varies)
    return column.phrase if column else "on {}"


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
    if best["rho"] < 0.5:
        return (
            f"No single component orders the losses well ({pairs}; the best is "
            f"{COMPONENTS[best['component']]}, Spearman’s ρ = {number(best['rho'])})."
        )
    close = [
        f"{COMPONENTS[row['component']]} (ρ = {number(row['rho'])})"
        for _, row in e[e["rho"] >= max(0.5, best["rho"] - 0.1)].head(4).iterrows()
    ]
    text = f"The losses are ordered best by the distance in {_listed(close)}, {pairs}."
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
            return Check(claim, _drop(content, gap), f"{_shift(content, study, gap)}.")
    return Check(claim, "not tested", "No study of this run varies the dose.")


def _magnification_check(content: ReportContent) -> Check:
    claim = "Networks lose away from the pixel size they were trained at (off the diagonal)."
    for study in content.studies_of("pixel_size_nm"):
        gaps = content.default_gaps(study)
        if gaps.empty:
            continue
        drops = int(sum(_drop(content, gap) == "visible" for _, gap in gaps.iterrows()))
        worst = _largest(gaps, "gap")
        share = drops / len(gaps)
        status = "visible" if share >= 0.5 else "partly visible" if drops else "not visible"
        if not drops and (gaps["high"] > content.reporting.degrades_above).any():
            status = "unclear"
        return Check(
            claim,
            status,
            f"{drops} of {len(gaps)} cells off the diagonal lose more than "
            f"{content.reporting.degrades_above:g} Dice with an interval above 0. The largest "
            f"loss: {_lower(_shift(content, study, worst))}.",
        )
    return Check(claim, "not tested", "No study of this run varies the pixel size.")


def _material_check(content: ReportContent) -> Check:
    claim = "Gaps across materials are small."
    for study in content.studies_of("material"):
        gaps = content.default_gaps(study)
        if gaps.empty:
            continue
        worst = _largest(gaps, "gap")
        limit = content.reporting.breaks_above
        if (gaps["high"] < limit).all():
            status = "visible"
        elif (gaps["gap"] < limit).all():
            status = "unclear"
        else:
            status = "partly visible" if gaps["gap"].median() < limit else "not visible"
        return Check(
            claim,
            status,
            f"The median gap is {number(gaps['gap'].median())}; the largest: "
            f"{_lower(_shift(content, study, worst))}. Small means below {limit:g} Dice.",
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
    lowest = min(own, key=lambda s: float(_own(content, s)["dice"]))
    dice = number(_own(content, lowest)["dice"])
    return Check(claim, "visible", f"The lowest is {dice}, on {lowest}.")


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


def _drop(content: ReportContent, gap: pd.Series) -> str:
    """Return whether one gap is a loss: visible, unclear or not visible."""
    limit = content.reporting.degrades_above
    if gap["gap"] > limit and gap["low"] > 0:
        return "visible"
    return "not visible" if gap["high"] < limit else "unclear"


def _numbers(content: ReportContent, study: str) -> pd.Series:
    """Return the smallest number of the varied column in each split, where there is one."""
    parameters = content.plan.studies[study]
    values = {s: content.range_of(s, parameters.varies)[0] for s in parameters.splits}
    return pd.Series(values, dtype=float).dropna()


def _largest(table: pd.DataFrame, column: str) -> pd.Series:
    return table.sort_values(column, kind="stable").iloc[-1]


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
