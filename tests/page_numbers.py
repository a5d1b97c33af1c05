"""Where every number of a report comes from: worked out again from the tables of its study.

``unexplained`` reads the page as a reader does and claims it piece by piece: cells, panels, charts,
sentences. What a piece should say is worked out here from the results of the single micrographs and
from the CSV files, without the code that writes the page. What is left over must be among the
numbers that its part of the page may speak of.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from temshift.config.modelling import ModellingParameters
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.reporting import ReportingParameters

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}
NUMBER = re.compile(r"(?<![\w.])[−-]?\d+(?:\.\d+)?(?![\w]|\.\d)")
MIXED = ("robust", "degrades", "breaks")


@dataclass
class Study:
    """The tables of a study, as they lie beside its page, and its parameters."""

    results: pd.DataFrame
    matrix: pd.DataFrame
    gaps: pd.DataFrame
    gains: pd.DataFrame
    remedies: pd.DataFrame
    transfer: pd.DataFrame
    confounds: pd.DataFrame
    splits: pd.DataFrame
    fingerprints: pd.DataFrame
    distances: pd.DataFrame
    explanation: pd.DataFrame
    histories: pd.DataFrame
    parameters: dict[str, Any]

    @classmethod
    def read(cls, data: Path, parameters: dict[str, Any]) -> Study:
        names = [
            "matrix",
            "gaps",
            "gains",
            "remedies",
            "transfer",
            "confounds",
            "splits",
            "fingerprints",
            "distances",
            "explanation",
        ]
        tables = {n: pd.read_csv(data / "08_reporting" / f"{n}.csv") for n in names}
        results = pd.read_parquet(data / "07_model_output" / "results.parquet")
        histories = pd.read_csv(data / "07_model_output" / "histories.csv")
        return cls(results=results, histories=histories, parameters=parameters, **tables)

    @classmethod
    def of(cls, content: Any) -> Study:
        splits = content.splits.reset_index()
        names = [
            "results",
            "matrix",
            "gaps",
            "gains",
            "remedies",
            "transfer",
            "confounds",
            "distances",
            "explanation",
            "histories",
        ]
        tables = {name: getattr(content, name) for name in names}
        fingerprints = content.fingerprints.reset_index()
        return cls(
            splits=splits, fingerprints=fingerprints, parameters=content.parameters, **tables
        )

    @property
    def studies(self) -> dict[str, Any]:
        return {name: study for name, study in self.parameters["studies"].items() if study}

    @property
    def limits(self) -> tuple[float, float]:
        given = self.parameters["reporting"]
        return given.get("degrades_above", 0.03), given.get("breaks_above", 0.15)

    @property
    def confidence(self) -> float:
        return self.parameters["reporting"].get("confidence", 0.95)

    @property
    def protocol(self) -> str:
        given = self.parameters["modelling"].get("protocols", ["grouped"])
        return next(p for p in given if p in set(self.results["protocol"]))


class _Tree(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.builder = ET.TreeBuilder()
        self.builder.start("page", {})
        self.feed(source)
        self.builder.end("page")
        self.root = self.builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {k: v or "" for k, v in attrs})
        if tag in VOID:
            self.builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        self.builder.data(data)


def shown(value: float, digits: int = 2) -> str:
    """A number as a reader writes it."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "" if float(text) == 0 else "−")


def bracketed(row: Any, key: str, digits: int = 2) -> str:
    low, high = shown(row["low"], digits), shown(row["high"], digits)
    return shown(row[key], digits) + (f" [{low}, {high}]" if "–" not in (low, high) else "")


def p_text(value: float) -> str:
    return "–" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def verdict_of(gap: Any, limits: tuple[float, float]) -> str:
    """The class of the bounds; what a reason leaves unjudged is not decided here."""
    least, most = gap["bound_low"], gap["bound_high"]
    if not np.isfinite([least, most]).all():
        return "undecided"
    if gap["low"] <= 0:  # no loss is sure
        least = min(least, 0)
    first, last = (sum(limit < end for limit in limits) for end in (least, most))
    if first == last:
        return MIXED[first]
    return f"{MIXED[first]} or {MIXED[last]}" if last == first + 1 else "undecided"


# --------------------------------------------------------------------------- tables
def wrong_tables(study: Study) -> list[str]:
    """What the CSV files say otherwise than the results of the single micrographs."""
    wrong = []

    def compare(what: str, found: float, expected: float) -> None:
        if not np.isclose(found, expected, rtol=0, atol=1e-6, equal_nan=True):
            wrong.append(f"{what}: {found} in the table, {expected} from the results")

    r = study.results
    for _, row in study.matrix.iterrows():
        what = f"matrix, {row['network']} on {row['test_split']} ({row['protocol']})"
        cell = r[
            (r["network"] == row["network"])
            & (r["test_split"] == row["test_split"])
            & (r["protocol"] == row["protocol"])
        ]
        compare(f"{what}: Dice", row["dice"], _dice(cell))
        tp, fp, fn = (cell[c].sum() for c in ("tp", "fp", "fn"))
        compare(f"{what}: precision", row["precision"], tp / (tp + fp) if tp + fp else np.nan)
        compare(f"{what}: recall", row["recall"], tp / (tp + fn) if tp + fn else np.nan)
        for column, count in (
            ("n_folds", cell["fold"].nunique()),
            ("n_groups", cell["group"].nunique()),
            ("n_micrographs", cell["micrograph_id"].nunique()),
        ):
            compare(f"{what}: {column}", row[column], count)
    for table, first, second, difference in (
        (study.gaps, "reference_dice", "dice", "gap"),
        (study.gains, "dice", "baseline_dice", "gain"),
    ):
        for _, row in table.iterrows():
            what = f"{difference} of {row['network']} on {row['test_split']}"
            compare(what, row[difference], row[first] - row[second])
            if np.isfinite(row["standard_error"]):
                half = student.ppf((1 + study.confidence) / 2, row["df"]) * row["standard_error"]
                compare(f"{what}, low", row["low"], row[difference] - half)
                compare(f"{what}, high", row["high"], row[difference] + half)
                if row["standard_error"] > 0:
                    p = 2 * student.sf(abs(row[difference]) / row["standard_error"], row["df"])
                    compare(f"{what}, p", row["p_value"], p)
        for (_, _), rows in table.groupby(["study", "protocol"]):
            order = rows["p_value"].sort_values().index
            steps = rows.loc[order, "p_value"] * np.arange(len(order), 0, -1)
            for found, expected in zip(
                rows.loc[order, "p_holm"], np.minimum(steps.cummax(), 1), strict=True
            ):
                compare(f"{difference}, Holm", found, expected)
    wrong += _wrong_transfer(study)
    for _, row in study.gaps.iterrows():
        if np.isfinite(row["standard_error"]):
            half = student.ppf(study.confidence, row["df"]) * row["standard_error"]
            compare("lower bound", row["bound_low"], row["gap"] - half)
            compare("upper bound", row["bound_high"], row["gap"] + half)
        if row["reason"] == "" or row["reason"] != row["reason"]:
            if row["verdict"] != (expected := verdict_of(row, study.limits)):
                wrong.append(f"verdict {row['verdict']}, {expected} from its bounds")
        elif row["verdict"] not in ("reference weak", "undecided"):
            wrong.append(f"verdict {row['verdict']} on what is not judged")
    return wrong


def _wrong_transfer(study: Study) -> list[str]:
    """What ``transfer.csv`` says otherwise than the results of the single micrographs."""
    r, wrong = study.results, []

    def tested(network: str, split: str, protocol: str) -> pd.DataFrame:
        here = (r["network"] == network) & (r["test_split"] == split)
        return r[here & (r["protocol"] == protocol)]

    def loss(network: str, split: str, protocol: str) -> float:
        own, other = (tested(n, split, protocol) for n in (split, network))
        common = set(own["micrograph_id"]) & set(other["micrograph_id"])
        both = [part[part["micrograph_id"].isin(common)] for part in (own, other)]
        return _dice(both[0]) - _dice(both[1]) if common else np.nan

    for _, row in study.transfer.iterrows():
        a, b, protocol = row["train_on"], row["test_split"], row["protocol"]
        own, there = (_dice(tested(a, split, protocol)) for split in (a, b))
        gap, back = loss(a, b, protocol), loss(b, a, protocol)
        expected = {"own_dice": own, "dice": there, "g_ood": own - there, "gap": gap}
        expected |= {"reverse_gap": back, "asymmetry": gap - back}
        if np.isfinite(row["standard_error"]):
            half = student.ppf((1 + study.confidence) / 2, row["df"]) * row["standard_error"]
            expected |= {"low": row["asymmetry"] - half, "high": row["asymmetry"] + half}
        for key, value in expected.items():
            if not np.isclose(row[key], value, rtol=0, atol=1e-6, equal_nan=True):
                wrong.append(f"transfer, {a} to {b}, {key}: {row[key]}, {value} from the results")
        sure = row["p_holm"] <= 1 - study.confidence
        way = ("harder" if row["asymmetry"] > 0 else "easier") if sure else "not shown"
        found = "" if row["direction"] != row["direction"] else row["direction"]
        if found != (way if row["p_holm"] == row["p_holm"] else ""):
            wrong.append(f"transfer, {a} to {b}: {found!r}, {way!r} from its p")
    return wrong


def _dice(cell: pd.DataFrame) -> float:
    """The mean over folds of the mean Dice of their micrographs (or patches)."""
    if (cell["protocol"] == "published").all():
        score = cell["patch_dice"] * cell["n_patches"]
        folds = score.groupby(cell["fold"]).sum() / cell.groupby("fold")["n_patches"].sum()
        return float(folds.mean())
    # counts are smoothed by a pixel
    dice = (2 * cell["tp"] + 1) / (2 * cell["tp"] + cell["fp"] + cell["fn"] + 1)
    return float(dice.groupby(cell["fold"]).mean().mean())


# --------------------------------------------------------------------------- the page
def unexplained(source: str, study: Study) -> list[str]:
    """What the page says that its tables do not: a line each."""
    page = _Page(_Tree(source).root, study)
    for check in (
        page.answers,
        page.findings,
        page.matrices,
        page.panels,
        page.charts,
        page.split_table,
        page.gains,
        page.transfer,
        page.remedies,
        page.fingerprint_table,
        page.confounds,
        page.examples,
        page.rest,
    ):
        check()
    return page.wrong


class _Page:
    def __init__(self, root: ET.Element, study: Study) -> None:
        self.root, self.study = root, study
        self.wrong: list[str] = []
        self.parents = {child: parent for parent in root.iter() for child in parent}
        s = study
        known = [*s.splits["split"], *s.matrix["network"], *s.results["micrograph_id"]]
        known += [*s.results["group"], *s.studies]
        known += [study.get("title") or "" for study in s.studies.values()]
        known += [v for c in s.splits.select_dtypes(exclude="number") for v in s.splits[c]]
        known += list(s.confounds["value"])
        parts = {part for name in known for part in (str(name), *str(name).split("/"))}
        self.names = sorted((n for n in parts if re.search(r"\d\D|\D\d", n)), key=len, reverse=True)

    # ------------------------------------------------------------------ pieces
    def expect(self, element: ET.Element | None, expected: str, what: str) -> None:
        """Claim an element that must say exactly this."""
        found = "nothing" if element is None else text_of(element)
        if found != expected:
            self.wrong.append(f"{what}: {found!r} on the page, {expected!r} from the tables")
        self.claim(element)

    def claim(self, element: ET.Element | None) -> None:
        if element is not None:
            element.text = ""
            for child in list(element):
                element.remove(child)

    def of(self, css: str, tag: str, root: ET.Element | None = None) -> list[ET.Element]:
        everything = (root if root is not None else self.root).iter(tag)
        return [e for e in everything if css in e.get("class", "").split()]

    def gap(self, network: str, split: str, protocol: str) -> Any:
        g = self.study.gaps
        rows = g[
            (g["network"] == network) & (g["test_split"] == split) & (g["protocol"] == protocol)
        ]
        return rows

    def cell(self, network: str, split: str, protocol: str) -> Any:
        m = self.study.matrix
        rows = m[
            (m["network"] == network) & (m["test_split"] == split) & (m["protocol"] == protocol)
        ]
        return rows.iloc[0]

    def shifts(self, name: str) -> pd.DataFrame:
        """The gaps between the sets of a study, under the protocol of the sentences."""
        g = self.study.gaps
        own = self.study.studies[name]["splits"]
        chosen = (g["study"] == name) & g["network"].isin(own)
        return g[chosen & (g["protocol"] == self.study.protocol)]

    # ------------------------------------------------------------------ first screen
    def answers(self) -> None:
        (found,) = self.of("answers", "ul")
        says = [text_of(item) for item in found]
        parts = [self.shifts(name) for name in self.study.studies]
        gaps = pd.concat([part for part in parts if len(part)])
        lower, upper = (self._above(gaps, limit) for limit in self.study.limits)
        breaking, degrading = gaps[upper], gaps[lower & ~upper]
        open_ = gaps[~gaps["verdict"].isin(MIXED)]
        for sentence, rows, start in (
            (says[0], breaking, f"{len(breaking)} of {len(gaps)} shifts"),
            (says[1], degrading, f"{len(degrading)} surely degrade"),
        ):
            if len(rows):
                surest = rows.sort_values(["low", "gap"], kind="stable").iloc[-1]
                loss = f"loses {bracketed(surest, 'gap')} Dice"
                if start not in sentence or loss not in sentence:
                    self.wrong.append(f"answer: {sentence!r}, expected {start!r} and {loss!r}")
            elif not re.match(r"\W*No (other )?shift", sentence):
                self.wrong.append(f"answer: {sentence!r}, but no shift is sure")
        expected = f"{len(open_)} of {len(gaps)} stay" if len(open_) else f"the {len(gaps)} shifts"
        if expected not in says[2] and f"{len(open_)} of {len(gaps)} stays" not in says[2]:
            self.wrong.append(f"answer: {says[2]!r}, expected {expected!r}")
        near = open_[open_["folds_to_decide"] <= 60].sort_values("folds_to_decide", kind="stable")
        allowed = [
            len(gaps),
            int((gaps["reason"].fillna("") == "").sum()),
            len(breaking),
            len(degrading),
            len(open_),
            len(near),
        ]
        allowed += [int((degrading["verdict"] != "degrades").sum())]
        allowed += [int((open_["reason"].fillna("") != "").sum()), *self._effort(near)]
        texts = {str(n) for n in allowed} | {f"{limit:g}" for limit in self.study.limits} | {"60"}
        texts |= self._losses(pd.concat([breaking, degrading]))
        self.among(found, texts | self._conditions(), "answers")

    def _above(self, gaps: pd.DataFrame, limit: float) -> np.ndarray:
        """Which losses are above a limit: one-sided, by Holm's steps over those that are judged."""
        rows = gaps.reset_index(drop=True)
        rows = rows[rows["reason"].fillna("") == ""]
        p = pd.Series(student.sf((rows["gap"] - limit) / rows["standard_error"], rows["df"]))
        p.index = rows.index
        above = np.zeros(len(gaps), dtype=bool)
        for step, place in enumerate(p.dropna().sort_values(kind="stable").index):
            if p[place] * (p.count() - step) > 1 - self.study.confidence:
                break
            above[place] = (
                "breaks" in rows["verdict"][place] or rows["verdict"][place] == "degrades"
            )
        return above

    def _effort(self, gaps: pd.DataFrame) -> list[int]:
        decided = gaps[np.isfinite(gaps["folds_to_decide"].astype(float))]
        groups = np.ceil(decided["folds_to_decide"] * decided["n_groups"] / decided["n_folds"])
        return [*decided["folds_to_decide"].astype(int), *groups.astype(int)]

    def _losses(self, gaps: pd.DataFrame) -> set[str]:
        """What may be said of some gaps: the numbers of their rows and nothing else."""
        numbers: set[str] = set()
        for key in ("gap", "low", "high", "reference_dice", "p_holm", "p_value", "detectable"):
            values = gaps[key].astype(float)
            numbers |= {shown(v) for v in values} | {shown(-v) for v in values}
        return numbers

    def _conditions(self) -> set[str]:
        """The settings of the sets, as the split table has them."""
        s = self.study.splits
        columns = [c for c in s if str(c).endswith(("_min", "_max"))]
        values = {float(v) for c in columns for v in s[c] if np.isfinite(v)}
        forms = ("g", ".0f", ".1f", ".2f", ".3f")
        return {format(v, form).replace("-", "−") for v in values for form in forms} | {
            format(v, form) for v in values for form in forms
        }

    def findings(self) -> None:
        (found,) = self.of("findings", "ul")
        for item in found:
            link = next(iter(item.iter("a")), None)
            if link is None:
                continue
            name = self._study_of(link.get("href", "").removeprefix("#study-"))
            self._finding(item, name)
        for section in self.root.iter("section"):
            place = section.get("id", "")
            if place.startswith("study-"):
                first = next(e for e in section if e.tag == "p")
                self._finding(first, self._study_of(place.removeprefix("study-")))

    def _study_of(self, slug: str) -> str:
        names = self.study.studies
        return next(n for n in names if n.replace("_", "-").replace(" ", "-") == slug)

    def _finding(self, element: ET.Element, name: str) -> None:
        gaps, says = self.shifts(name), text_of(element)
        counts = Counter(gaps["verdict"])
        if len(gaps) > 1:
            tally = re.search(r"Of (\d+) shifts, ((?:\d+ [^,.]*(?:, )?)+)", says)
            numbers = [int(n) for n in re.findall(r"\d+", tally[0])] if tally else []
            if numbers[:1] != [len(gaps)] or sorted(numbers[1:]) != sorted(counts.values()):
                self.wrong.append(f"tally of {name}: {says!r}, expected {dict(counts)}")
        judged = gaps[gaps["reason"].fillna("") == ""]
        if len(judged):
            robust = (judged["verdict"] == "robust").all()
            order = ["high"] if robust else ["low", "gap"]
            row = judged.sort_values(order, kind="stable", na_position="first").iloc[-1]
            estimate = bracketed(row, "gap")
            if row["gap"] < 0:
                turned = {"gap": -row["gap"], "low": -row["high"], "high": -row["low"]}
                estimate = bracketed(turned, "gap")
            said = f"{'gains' if row['gap'] < 0 else 'loses'} {estimate} Dice"
            own = f"reaches {shown(row['reference_dice'])}"
            if said not in says or own not in says:
                self.wrong.append(f"finding of {name}: {says!r}, expected {said!r} and {own!r}")
        own_rows = self.study.gains[self.study.gains["study"] == name]
        texts = self._losses(gaps) | self._conditions() | {str(v) for v in counts.values()}
        texts |= {str(len(gaps)), str(len(self.study.gaps[self.study.gaps["study"] == name]))}
        for key in ("gain", "low", "high", "dice"):
            texts |= {shown(v) for v in own_rows[key].astype(float)}
        open_ = gaps[gaps["folds_to_decide"].notna()]
        seen = judged["detectable"].dropna()
        if len(seen):
            texts |= {shown(v) for v in (seen.min(), seen.median(), seen.max())}
        near = open_[open_["folds_to_decide"] <= 60]
        texts.add("60")  # more folds than that lie on a limit
        texts |= {str(n) for n in (len(open_), len(near), len(open_) - len(near))}
        texts |= {str(n) for n in self._effort(near)} | {f"{v:g}" for v in self.study.limits}
        own = self.study.studies[name]["splits"]
        for split in own:
            cells = self.study.matrix
            cells = cells[(cells["network"] == split) & (cells["test_split"] == split)]
            texts |= {shown(v) for v in cells["dice"]}
            trained = self.study.parameters["networks"].get(split)
            texts |= {f"{v:g}" for v in _flat_numbers(trained or {})}
        for reason in gaps["reason"].fillna(""):
            texts |= set(NUMBER.findall(str(reason)))
        self.among(element, texts, f"finding of {name}")

    # ------------------------------------------------------------------ matrices and panels
    def matrices(self) -> None:
        count = 0
        for table in self.of("matrix", "table"):
            for td in table.iter("td"):
                network, split = td.get("data-network"), td.get("data-split")
                if network is None or split is None:
                    continue
                count += 1
                protocol = table.get("data-protocol", "")
                cell, gaps = self.cell(network, split, protocol), self.gap(network, split, protocol)
                words = [shown(cell["dice"]), f"{shown(cell['low'])} – {shown(cell['high'])}"]
                b, interval, verdict = (e for e in td.iter() if e.tag in ("b", "small"))
                self.expect(b, words[0], f"matrix, {network} on {split}")
                self.expect(interval, words[1], f"matrix, interval, {network} on {split}")
                says = text_of(verdict).lstrip("●◐▲◮■○✕ ")
                expected = str(gaps["verdict"].iloc[0]) if len(gaps) else ""
                if says.strip("\xa0 ") != expected:
                    self.wrong.append(f"matrix, verdict, {network} on {split}: {says!r}")
                self.claim(verdict)
        if count != len(self.study.matrix):
            self.wrong.append(f"{count} cells in matrices, {len(self.study.matrix)} in the table")

    def panels(self) -> None:
        for panel in self.of("panel", "div"):
            place = [panel.get(f"data-{k}", "") for k in ("network", "split", "protocol")]
            network, split, protocol = place
            cell, gaps = self.cell(network, split, protocol), self.gap(network, split, protocol)
            what = f"panel, {network} on {split}"
            expected = {
                "dice": bracketed(cell, "dice"),
                "n": rf"{cell['n_groups']} \S+, {cell['n_micrographs']} micrographs, "
                rf"{cell['n_folds']} folds",
                "fold_std": shown(self._fold_std(network, split, protocol)),
                "precision": shown(cell["precision"]),
                "recall": shown(cell["recall"]),
            }
            holm: list[str] = []
            if len(gaps):
                gap = gaps.iloc[0]
                holm = [p_text(v) for v in gaps["p_holm"]]
                expected |= {
                    "reference_dice": shown(gap["reference_dice"]),
                    "gap": bracketed(gap, "gap"),
                    "p_value": p_text(gap["p_value"]),
                    "detectable": shown(gap["detectable"]),
                }
            for td in [e for e in panel.iter("td") if e.get("data-key")]:
                key = td.get("data-key", "")
                if key == "p_holm":
                    self.expect(td, holm.pop(0), f"{what}, corrected p")
                elif key == "n":
                    if not re.fullmatch(expected.pop(key), text_of(td)):
                        self.wrong.append(f"{what}, n: {text_of(td)!r}")
                    self.claim(td)
                else:
                    self.expect(td, expected.pop(key), f"{what}, {key}")
            if expected or holm:
                self.wrong.append(f"{what} does not say {[*expected, *holm]}")
            self._dots(panel, network, split, protocol, what)

    def _fold_std(self, network: str, split: str, protocol: str) -> float:
        r = self.study.results
        cell = r[
            (r["network"] == network) & (r["test_split"] == split) & (r["protocol"] == protocol)
        ]
        folds = [_dice(rows) for _, rows in cell.groupby("fold")]
        return float(np.std(folds, ddof=1)) if len(folds) > 1 else float("nan")

    def _dots(self, panel: ET.Element, network: str, split: str, protocol: str, what: str) -> None:
        (holder,) = self.of("spread", "div", panel)
        gaps, r = self.gap(network, split, protocol), self.study.results
        rows = [(network, protocol)]
        if len(gaps):
            rows.append((split, str(gaps["reference_protocol"].iloc[0])))
        expected: list[str] = []
        means = []
        for name, own_protocol in rows:
            cell = r[
                (r["network"] == name)
                & (r["test_split"] == split)
                & (r["protocol"] == own_protocol)
            ]
            for fold, of_fold in cell.groupby("fold"):
                for group, members in of_fold.groupby("group"):
                    expected.append(f"{group}: {shown(_dice(members))} (fold {fold})")
            means.append(bracketed(self.cell(name, split, own_protocol), "dice"))
        dots = [e for e in holder.iter("circle") if e.get("class") == "dot"]
        if sorted(text_of(dot) for dot in dots) != sorted(expected):
            self.wrong.append(f"{what}: dots are not those of the results")
        titles = [text_of(e) for e in holder.iter("text") if e.get("class") == "title"]
        if [title.partition(": ")[2] for title in titles] != means:
            self.wrong.append(f"{what}: means {titles}, expected {means}")
        self._axis(holder)
        self.claim(holder)

    # ------------------------------------------------------------------ charts
    def _axis(self, holder: ET.Element) -> None:
        """Ticks of an axis are evenly spaced, and stand where they say."""
        for drawing in holder.iter("svg"):
            ticks = [
                (float(e.get("x", "nan")), float((e.text or "").replace("−", "-")))
                for e in drawing
                if e.tag == "text"
                and e.get("class") == "tick"
                and e.get("text-anchor") == "middle"
                and re.fullmatch(r"−?[\d.]+", e.text or "")
            ]
            if len(ticks) > 2:
                x, value = np.array(ticks).T
                if not np.allclose(np.polyval(np.polyfit(value, x, 1), value), x, atol=0.6):
                    self.wrong.append(f"ticks {ticks} are not on a line")

    def _frame(self, drawing: ET.Element) -> None:
        """Ticks on the left of a small chart stand where they say."""
        beside = []
        for text in list(drawing):
            if text.tag == "text" and re.fullmatch(r"−?[\d.e-]+", text.text or ""):
                if text.get("text-anchor") == "end" and float(text.get("x", "nan")) < 40:
                    value = float((text.text or "").replace("−", "-"))
                    beside.append((float(text.get("y", "nan")), value))
                self.claim(text)
        if len(beside) > 2:
            y, value = np.array(beside).T
            if not np.allclose(np.polyval(np.polyfit(value, y, 1), value), y, atol=0.6):
                self.wrong.append(f"ticks {beside} are not on a line")

    def charts(self) -> None:
        for figure in self.of("forest", "figure"):
            section = self.parents[figure]
            name = self._study_of(section.get("id", "").removeprefix("study-"))
            g = self.study.gaps
            gaps = g[(g["study"] == name) & (g["protocol"] == self.study.protocol)]
            self._axis(figure)
            for holder in [e for e in figure if e.tag == "div"]:
                groups = list(holder.iter("g"))
                if len(groups) != len(gaps):
                    self.wrong.append(f"forest of {name}: {len(groups)} rows of {len(gaps)}")
                for group, (_, row) in zip(groups, gaps.iterrows(), strict=False):
                    self._whisker(group, row, f"forest of {name}")
                self.claim(holder)
        for figure in self.of("overview", "figure"):
            self._axis(figure)
            rows = {(r["network"], r["test_split"]): r for _, r in self._all_shifts().iterrows()}
            for group in figure.iter("g"):
                title = text_of(next(group.iter("title")))
                place = re.match(r"(\S+) on (\S+): ", title)
                assert place is not None
                self._whisker(group, rows[place[1], place[2]], "overview")
            for holder in [e for e in figure if e.tag == "div"]:
                self.claim(holder)

    def _all_shifts(self) -> pd.DataFrame:
        return pd.concat([self.shifts(name) for name in self.study.studies])

    def _whisker(self, group: ET.Element, row: Any, what: str) -> None:
        title = text_of(next(group.iter("title")))
        expected = (
            f"{row['network']} on {row['test_split']}: {bracketed(row, 'gap')}, {row['verdict']}, "
            f"p = {shown(row['p_value'], 3)} "
        )
        count = f"n = {row['n_groups']} in {row['n_folds']} folds"
        if not title.startswith(expected) or count not in title:
            self.wrong.append(f"{what}: {title!r}, expected {expected!r} and {count!r}")
        for text in group.iter("text"):
            if text.get("class") == "value" and text.text != bracketed(row, "gap"):
                self.wrong.append(f"{what}: {text.text!r} beside {expected!r}")

    # ------------------------------------------------------------------ other tables
    def _rows(self, section: str) -> list[tuple[str, list[ET.Element], ET.Element]]:
        for element in self.root.iter("section"):
            if element.get("id") == section:
                return [
                    (text_of(next(row.iter("th"))), list(row.iter("td")), row)
                    for body in element.iter("tbody")
                    for row in body.iter("tr")
                    if next(row.iter("th"), None) is not None
                ]
        return []

    def split_table(self) -> None:
        by_split = self.study.splits.set_index("split")
        for name, cells, row in self._rows("data"):
            if name not in by_split.index:
                continue
            s = by_split.loc[name]
            ends = [*cells[:1], *cells[-4:]]
            share = f"{shown(100 * s['labelled_share'], 0)} %"
            counts = [str(s[c]) for c in ("n_micrographs", "n_groups", "n_patches")]
            for cell, expected in zip(ends, [bracketed(s, "dice"), *counts, share], strict=True):
                self.expect(cell, expected, f"image set {name}")
            self.among(row, self._conditions(), f"image set {name}")

    def gains(self) -> None:
        g = self.study.gains
        g = g[g["protocol"] == self.study.protocol]
        for section in self.root.iter("section"):
            place = section.get("id", "")
            for row in section.iter("tr"):
                if not place.startswith("study-") or row.get("data-network") is None:
                    continue
                chosen = (g["study"] == self._study_of(place.removeprefix("study-"))) & (
                    (g["network"] == row.get("data-network"))
                    & (g["test_split"] == row.get("data-split"))
                )
                gain = g[chosen].iloc[0]
                cells = list(row.iter("td"))[-5:]
                expected = [shown(gain["dice"]), shown(gain["baseline_dice"])]
                expected += [bracketed(gain, "gain"), p_text(gain["p_value"])]
                for cell, text in zip(cells, [*expected, p_text(gain["p_holm"])], strict=True):
                    self.expect(cell, text, f"gain of {gain['network']}")
                self.among(row, self._conditions(), "condition of a gain")

    def transfer(self) -> None:
        t = self.study.transfer
        t = t[t["protocol"] == self.study.protocol]
        for section in self.root.iter("section"):
            if not section.get("id", "").startswith("study-"):
                continue
            rows = t[t["study"] == self._study_of(section.get("id", "").removeprefix("study-"))]
            left = {(row["train_on"], row["test_split"]): row for _, row in rows.iterrows()}
            for tr in [e for e in section.iter("tr") if e.get("data-from") is not None]:
                row = left.pop((tr.get("data-from"), tr.get("data-to")))
                ood = {"g_ood": row["g_ood"], "low": row["g_ood_low"], "high": row["g_ood_high"]}
                heart = {"g_id": row["g_id"], "low": row["g_id_low"], "high": row["g_id_high"]}
                expected = [shown(row["own_dice"]), shown(row["dice"])]
                expected += [bracketed(heart, "g_id"), bracketed(ood, "g_ood")]
                expected += [shown(row["gap"]), shown(row["reverse_gap"])]
                expected += [bracketed(row, "asymmetry"), p_text(row["p_holm"])]
                way = row["direction"]
                expected.append(way if way and way == way else "–")
                what = f"transfer, {row['train_on']} to {row['test_split']}"
                for cell, text in zip(list(tr.iter("td"))[-9:], expected, strict=True):
                    self.expect(cell, text, what)
                self.among(tr, self._conditions(), what)
            if left:
                self.wrong.append(f"transfer that the page does not show: {list(left)}")
            for p in [e for e in section if e.tag == "p" and "one way is" in text_of(e).lower()]:
                self._both_ways(p, rows)

    def _both_ways(self, element: ET.Element, rows: pd.DataFrame) -> None:
        """How many pairs are harder one way, and by how much the surest."""
        says = text_of(element)
        harder = rows[rows["direction"] == "harder"]
        told = rows["direction"].isin(["harder", "easier", "not shown"]).sum() // 2
        numbers = self._conditions() | {str(told)}
        if len(harder):
            first = harder.sort_values(["p_holm", "asymmetry"], kind="stable").iloc[0]
            expected = bracketed(first, "asymmetry")
            if not says.startswith(f"In {len(harder)} of ") or expected not in says:
                self.wrong.append(f"there and back: {says!r}, expected {expected!r}")
            numbers |= {str(len(harder)), *(shown(first[k]) for k in ("asymmetry", "low", "high"))}
        elif told and "In none of" not in says:
            self.wrong.append(f"there and back: {says!r}, but no pair is harder one way")
        self.among(element, numbers, "there and back")

    def remedies(self) -> None:
        r = self.study.remedies
        r = r[r["protocol"] == self.study.protocol]
        tested = r[r["remedy"].fillna("") != ""]
        left = [
            (
                str(row["remedy"]),
                [bracketed(_ends(row, k), k) for k in ("before", "after", "gain")]
                + [p_text(row["p_holm"])]
                + [bracketed(_ends(row, k), k) for k in ("cost", "left")],
            )
            for _, row in tested.iterrows()
        ]
        for _, cells, row in self._rows("remedies"):
            name = text_of(cells[1]).partition(":")[0]
            found = (name, [text_of(cell) for cell in cells[-6:]])
            if found in left:
                left.remove(found)
            else:
                self.wrong.append(f"remedies: {found} is in no row of the table")
            for cell in cells[-6:]:
                self.claim(cell)
            settings = self.study.parameters.get("networks", {}).get(name) or {}
            own = {f"{v:g}" for v in _flat_numbers(settings)}
            own |= {str(len(settings.get("train_on", [])))}
            own |= {n for reason in r["reason"].fillna("") for n in NUMBER.findall(str(reason))}
            self.among(row, own | self._conditions(), f"remedy {name}")
        if left:
            self.wrong.append(f"remedies that the page does not show: {left}")
        for section in self.root.iter("section"):
            if section.get("id") == "remedies":
                for details in section.iter("details"):
                    self.claim(next(details.iter("pre")))  # parameters to add, no results
                losing = r[r["verdict"].isin(["breaks", "degrades or breaks", "degrades"])]
                keys = ["study", "baseline", "test_split"]
                helped = losing[losing["effect"] == "helps"]
                with_remedy = losing[losing["remedy"].fillna("") != ""]
                counts = {
                    str(part[keys].drop_duplicates().shape[0]) for part in (losing, with_remedy)
                }
                counts |= {str(helped[keys].drop_duplicates().shape[0])}
                counts |= {f"{1 - self.study.confidence:g}"} | self._conditions()
                self.among(section, counts, "remedies")

    def fingerprint_table(self) -> None:
        f = self.study.fingerprints.set_index("split")
        columns = [("contrast", 2), ("contrast_to_noise", 2), ("noise", 2)]
        columns += [("roughness_per_px2", 4), ("autocorrelation_1_0", 2), ("diameter_px", 0)]
        columns += [("diameter_nm", 1)] if f["diameter_nm"].notna().any() else []
        for name, cells, _ in self._rows("why"):
            for cell, (column, digits) in zip(cells, columns, strict=True):
                expected = shown(float(f.loc[name, column]), digits)
                self.expect(cell, expected, f"fingerprint of {name}, {column}")

    def confounds(self) -> None:
        c = self.study.confounds
        numbers = {
            format(float(v), form).replace("-", "−")
            for v in [*c["min"], *c["max"]]
            if np.isfinite(float(v))
            for form in ("g", ".0f", ".1f", ".2f", ".3f")
        }
        for section in self.root.iter("section"):
            for table in section.iter("table"):
                caption = next(table.iter("caption"), None)
                if caption is not None and "What else differs" in text_of(caption):
                    for part in (*table.iter("td"), *table.iter("thead")):
                        self.among(part, numbers | self._conditions(), "what else differs")

    def examples(self) -> None:
        for image in self.root.iter("img"):
            alt = image.get("alt", "")
            place = re.search(
                r"micrograph (.+), \S+ \S+ wide, .* network (\S+) predicts: Dice (\S+) over .* "
                r"set (\S+)$",
                alt,
            )
            assert place is not None, alt
            micrograph, network, dice, split = place.groups()
            r = self.study.results
            rows = r[
                (r["network"] == network)
                & (r["test_split"] == split)
                & (r["micrograph_id"] == micrograph)
            ]
            if dice not in {shown(v) for v in rows["dice"]}:
                self.wrong.append(f"example: {alt!r}, but Dice {rows['dice'].tolist()}")
        for figure in self.of("example", "figure"):
            caption = next(figure.iter("figcaption"))
            says = text_of(caption)
            alt = next(figure.iter("img")).get("alt", "")
            if f"Dice {re.search(r'Dice ([−–.0-9]+)', says)[1]} " not in alt:  # type: ignore[index]
                self.wrong.append(f"example: caption {says!r}, alternative text {alt!r}")
            self.claim(caption)
            bar = self.of("bar", "span", figure)[0]
            view = self.of("view", "div", figure)[0]
            self._bar(text_of(bar), bar.get("style", ""), alt)
            self.claim(view)

    def _bar(self, says: str, style: str, alt: str) -> None:
        wide, unit = re.search(r"([\d.]+) (nm|px) wide", alt).groups()  # type: ignore[union-attr]
        share = float(style.removeprefix("width:").rstrip("%")) / 100
        length, bar_unit = says.split()
        if bar_unit != unit or not np.isclose(share * float(wide), float(length), rtol=0.02):
            self.wrong.append(f"scale bar {says} over {share:.2%} of {wide} {unit}")

    # ------------------------------------------------------------------ what is left
    def among(self, element: ET.Element, texts: set[str], what: str) -> None:
        """Claim an element whose numbers must be among these."""
        says = " ".join(" ".join(element.itertext()).split())
        self.wrong += [f"{what}: {n} in {says[:160]!r}" for n in self.left(says) if n not in texts]
        self.claim(element)

    def left(self, says: str) -> list[str]:
        for name in self.names:
            says = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", "~", says)
        return NUMBER.findall(re.sub(r"(Figure|Table) \d+", "~", says))

    def rest(self) -> None:
        """Text that stands in no piece above: only numbers of the parameters and the tables."""
        s = self.study
        for tag in ("style", "head", "pre"):
            for element in list(self.root.iter(tag)):
                self.claim(element)
        for table in self.of("run", "table"):  # when and where: tests/catalog/test_run_facts.py
            self.claim(table)
        for caption in self.root.iter("caption"):
            self.among(caption, {"0", "0.1", "0.2", "0.3", "0.4", "0.5"}, "caption")
        fixed = {f"{v:g}" for v in _flat_numbers(_with_defaults(s.parameters))} | self._conditions()
        fixed |= {
            f"{100 * s.confidence:g}",
            f"{200 * s.confidence - 100:g}",
            f"{100 - 100 * s.confidence:g}",
            *(f"{v:g}" for v in s.limits),
        }
        fixed |= {str(v) for v in (len(s.splits), s.matrix["network"].nunique())}
        counts = {str(n) for n in range(len(s.gaps) + 1)}
        told = {k: s.parameters.get(k) for k in ("calibration", "simulation")}
        stated = set(NUMBER.findall(" ".join(str(v) for v in _values(told))))
        spoken = {shown(v) for k in ("rho", "p_value") for v in s.explanation[k].astype(float)}
        spoken |= {shown(v, 3) for v in s.explanation["p_value"].astype(float)}
        spoken |= {str(int(v)) for v in s.explanation["n_pairs"]}
        spoken |= {shown(v) for k in ("gap", "distance") for v in s.distances[k].astype(float)}
        losses = self._losses(s.gaps) | {shown(v) for v in s.matrix["dice"]}
        losses |= {shown(v) for k in ("low", "high") for v in s.matrix[k]}
        folds = s.histories.groupby(["network", "protocol", "fold"]).ngroups
        steps = {f"{v:g}" for v in s.histories["step"]}
        known = {
            "findings": fixed | {"1"},
            "data": fixed | counts | stated,
            "published": counts | losses | fixed | {"0.80", "0.70", "3", "100", "884", "80"},
            "studies": spoken | losses | fixed,
            "why": spoken,
            "training": {str(folds), *steps, "0", "1"},
            "limits": counts,
            "quality": counts | {str(n) for n in s.splits["n_micrographs"]},
            "run": fixed,
            "cite": {"2024", "3.0", "10.7941"},
            "methods": fixed | STATED,
            "glossary": fixed | {"0", "1", "2", "−1"},
        }
        for drawing in [e for e in self.root.iter("svg") if e.get("class") == "chart"]:
            self._axis(drawing)
            self._frame(drawing)
        for section in list(self.root.iter("section")):
            name = section.get("id", "")
            if name in known:
                self.among(section, known[name], f"section {name}")
        for panel in self.of("panel", "div"):
            numbers = {"4", "5"}
            for reason in s.gaps["reason"].fillna(""):
                numbers |= set(NUMBER.findall(str(reason)))
            self.among(panel, numbers, "panel")
        self.among(self.root, fixed | STATED, "elsewhere")


def _ends(row: Any, key: str) -> dict[str, Any]:
    return {key: row[key], "low": row[f"{key}_low"], "high": row[f"{key}_high"]}


#: Numbers of the methods that are no results: of tests of the method, of the literature, of files.
STATED = {"92", "98", "3", "2004", "15", "657", "1987", "8", "5", "0", "1"}


def _with_defaults(parameters: dict[str, Any]) -> dict[str, Any]:
    models = {
        "reporting": ReportingParameters,
        "modelling": ModellingParameters,
        "preprocessing": PreprocessingParameters,
    }
    typed = {k: m.model_validate(parameters[k]).model_dump() for k, m in models.items()}
    return {**parameters, **typed}


def _flat_numbers(block: Any) -> list[float]:
    values = _values(block)
    return [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]


def _values(block: Any) -> list[Any]:
    if isinstance(block, dict):
        block = list(block.values())
    if isinstance(block, list | tuple):
        return [v for inner in block for v in _values(inner)]
    return [block]
