"""What helps, measured: trains and tests the remedies of conf/thorough on a finished study.

    python benchmarks/remedies.py DATA OUT [--rows NAME ...]

DATA is the data folder of a finished default study: its patches, networks and results are only
read. The rows of conf/thorough/parameters_remedies.yml are trained with the parameters of conf/base
(500 steps, five folds), tested, and kept in OUT: networks, results and remedies.csv. What OUT holds
is not made again, so that rows can be made one by one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import yaml
from omegaconf import OmegaConf

from temshift.catalog.networks import NetworksDataset
from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.learning.devices import choose_device
from temshift.learning.evaluation import evaluate_network
from temshift.learning.modelling import train_network_set
from temshift.learning.tuned import tune_to_target
from temshift.study.remedies import remedies_table
from temshift.study.statistics import (
    compare_robust_training,
    compare_with_in_domain,
    dice_matrices,
)

CONF = Path(__file__).parents[1] / "conf"
STUDIES = ("dose", "magnification")


def parameters() -> dict[str, object]:
    """Return the parameters of the default study with the rows of ``--env thorough``."""
    files = [CONF / "base" / f"parameters_{n}.yml" for n in ("data_curation", "modelling")]
    files.append(CONF / "thorough" / "parameters_remedies.yml")
    merged = OmegaConf.merge(*(OmegaConf.create(yaml.safe_load(f.read_text())) for f in files))
    found = OmegaConf.to_container(merged)
    assert isinstance(found, dict)
    found["studies"] = {name: found["studies"][name] for name in STUDIES}
    return {str(k): v for k, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+")
    a = parser.parse_args()
    given = parameters()
    plan = StudyPlan.from_parameters(given)
    modelling = ModellingParameters.model_validate(given["modelling"])
    a.out.mkdir(parents=True, exist_ok=True)
    done = pd.read_parquet(a.data / "07_model_output" / "results.parquet")

    def stack(split: str):
        return PatchStackDataset(
            filepath=str(a.data / "05_model_input" / split / "patches.h5")
        ).load()

    def networks(name: str):
        of_study = a.data / "06_models" / name
        folder = of_study if of_study.exists() else a.out / "networks" / name
        dataset = NetworksDataset(filepath=str(folder))
        if not folder.exists():
            own = modelling.with_overrides(plan.networks[name])
            trained, _ = train_network_set(name, {s: stack(s) for s in plan.train_on(name)}, own)
            dataset.save(trained)
        return dataset.load()

    tables = [done[done["network"].isin(plan.rows)]]
    for name in plan.rows:
        file = a.out / f"{name}.parquet"
        if name in set(done["network"]):
            continue
        if not file.exists():
            if a.rows and name not in a.rows:
                continue
            start, own = time.process_time(), plan.networks[name]
            stacks = {split: stack(split) for split in plan.tested_on(name)}
            tested, tuning = networks(plan.weights_of(name)), own.fine_tuning
            if tuning is not None:
                device = choose_device(modelling.device)
                tested = tune_to_target(name, tested, stacks[tuning.split], tuning, device)
            results, _ = evaluate_network(
                name,
                tested,
                stacks,
                EvaluationParameters(examples=False),
                modelling.device,
                own.adaptation,
            )
            results.to_parquet(file)
            print(f"{name}: {time.process_time() - start:.0f} CPU s", flush=True)
        tables.append(pd.read_parquet(file))
    results, reporting = pd.concat(tables, ignore_index=True), ReportingParameters()
    found = remedies_table(
        dice_matrices(results, plan, reporting),
        compare_with_in_domain(results, plan, reporting),
        compare_robust_training(results, plan, reporting),
        plan,
        reporting,
    )
    found.to_csv(a.out / "remedies.csv", index=False)
    shown = ["baseline", "test_split", "remedy", "before", "after", "gain", "p_holm", "effect"]
    print(found[[*shown, "cost", "left"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
