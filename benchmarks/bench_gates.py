"""CPU seconds of the gates beside the stages they guard, and beside Great Expectations' own expectations.

    python benchmarks/bench_gates.py                  # 12 and 41 contracts: the tables of docs/performance.md
    python benchmarks/bench_gates.py --sets 4         # shows that it works
    python benchmarks/bench_gates.py --keep FOLDER    # leaves the lakes there, and uses those that it finds

The synthetic market has 115,000 bars a contract. Each gate validates the files of its stage as they are (clean), with
planted defects in every contract (dirty), and with one column without a value (empty column). The built-in
expectations validate the same feature files of the smallest set, a contract at a time, with one expectation for each
check that they have: bounds, NaN and null, infinity, constant, spread, keys. They get the rows after the warm-ups, that
the gate finds itself, and compare no keys with the bars. Bars have hardly any check that is built in.

One thread, one process. Imports are not part of a gate's time; their cost is the first line. The machine may be shared:
quote ratios. The benchmark takes about ten minutes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from measuring import NOW, one_thread_each

SETS = (12, 41)
LEAD = 22
RUN = "gates"
REPEATS = 3
IMPORTS = {
    "great_expectations": "import pandas, polars; begin(); import great_expectations",
    "a stage without a gate": "begin(); import polars, vpoc_ml.pipeline; vpoc_ml.pipeline.features_contract",
}
CLOCK = "import time, sys\nstart = [0.0]\ndef begin(): start[0] = time.process_time()\n{}\n"
CLOCK += "print(time.process_time() - start[0], 'great_expectations' in sys.modules)"
GUARDED = {
    "gate_bars": "ingest_contract",
    "gate_features": "features_contract",
    "gate_leakage": "features_contract",
    "gate_training_set": "build_training_set",
}
KINDS = {"gate_bars": "bars", "gate_features": "features"}
COMPARED = "gate_features"


def cpu(work: Callable[[], object], repeats: int = 1) -> float:
    """Return the median CPU seconds of a call; a gate may fail."""
    from vpoc_ml.errors import GateFailedError

    spent = []
    for _ in range(repeats):
        begin = time.process_time()
        with suppress(GateFailedError):
            work()
        spent.append(time.process_time() - begin)
    return statistics.median(spent)


def imports() -> None:
    for name, line in IMPORTS.items():
        command = [sys.executable, "-c", CLOCK.format(line)]
        answers = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(REPEATS)]
        spent = statistics.median(float(answer.split()[0]) for answer in answers)
        print(f"import of {name}: {spent:.2f} CPU s; great_expectations is then loaded: {answers[0].split()[1]}")


def built_lake(folder: Path, contracts: int) -> tuple[Path, list[str], dict[str, float]]:
    """Return a lake with everything up to the training set, its contracts, and the CPU seconds of each stage."""
    from vpoc_ml import pipeline
    from vpoc_ml.synthetic.generate import write_market

    lake = folder / "lake"
    if not (folder / "raw").is_dir():
        write_market(folder / "raw", contracts=contracts, lead=LEAD)
    shutil.rmtree(lake, ignore_errors=True)
    pipeline.start_run(
        str(lake), RUN, "nightly", {"quality.max_age_sessions": "10000"}, str(folder / "raw"), None, now=NOW
    )
    codes = list(pipeline.plan_contracts(str(lake), RUN).contracts)
    spent = {}
    for stage in ("ingest_contract", "build_rolls", "profile_contract", "features_contract", "build_training_set"):
        function = getattr(pipeline, stage)
        calls = [(code,) for code in codes] if stage.endswith("_contract") else [(codes,)]
        spent[stage] = cpu(lambda function=function, calls=calls: [function(str(lake), RUN, *call) for call in calls])
    return lake, codes, spent


def gate_call(gate: str, lake: Path, codes: Sequence[str]) -> Callable[[], object]:
    from vpoc_ml import pipeline

    function = getattr(pipeline, gate)
    arguments = () if gate == "gate_training_set" else (list(codes),)
    return lambda: function(str(lake), RUN, *arguments)


# ---------------------------------------------------------------- planted defects


@contextmanager
def planted(lake: Path, gate: str, codes: Sequence[str], change: Callable[[Any], Any]) -> Iterator[None]:
    """Change the files that a gate reads; put them back afterwards."""
    import polars as pl

    from vpoc_ml.lake.manifest import BuildKey
    from vpoc_ml.lake.store import Lake

    files = [lake / "runs" / RUN / "training_set.parquet"]
    if gate in KINDS:
        files = [lake / KINDS[gate] / "ES" / f"{code}.parquet" for code in codes]
    kept = {path: path.read_bytes() for file in files for path in (file, file.with_suffix(".json")) if path.is_file()}
    try:
        for file in files:
            key = file.relative_to(lake).as_posix()
            frame, stored = change(pl.read_parquet(file)), Lake(lake).manifest(key)
            if stored is None:
                frame.write_parquet(file)
            else:
                Lake(lake).write_frame(key, frame, BuildKey(stored.inputs, stored.config, stored.code), stored.details)
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def with_defects(frame: Any) -> Any:
    """Plant NaN in three columns, infinite values in one and values far outside in another: 1.5 % of the rows."""
    import polars as pl

    names = [name for name, dtype in frame.schema.items() if dtype.is_float() and name not in ("vix", "y", "ret")]
    values = {names[0]: nan, names[1]: nan, names[2]: nan, names[3]: inf, names[-1]: 1e9}
    rows = pl.int_range(pl.len()) % 1000
    return frame.with_columns(
        pl.when(rows.is_between(10 * n, 10 * n + 2)).then(pl.lit(value, frame.schema[name])).otherwise(name).alias(name)
        for n, (name, value) in enumerate(values.items())
    )


def without_values(frame: Any) -> Any:
    """Replace one column by nulls."""
    import polars as pl

    name = "rsi_14" if "rsi_14" in frame.columns else "open"
    return frame.with_columns(pl.lit(None, frame.schema[name]).alias(name))


# ---------------------------------------------------------------- built-in expectations


def built_in(lake: Path, codes: Sequence[str]) -> float:
    """Return the CPU seconds of the same checks by the expectations that Great Expectations has."""
    import polars as pl

    total = 0.0
    for code in codes:
        frame = pl.read_parquet(lake / KINDS[COMPARED] / "ES" / f"{code}.parquet")
        warm = frame.slice(frame.height // 3).to_pandas()  # no contract's warm-up is longer
        total += cpu(partial(validate_built_in, code, warm))
    return total


def validate_built_in(code: str, data: Any) -> None:
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars=ProgressBarsConfig(globally=False)
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    suite = context.suites.add(gx.ExpectationSuite(name="features", expectations=list(expectations(code, data))))
    batch = (
        context.data_sources.add_pandas("files").add_dataframe_asset(code).add_batch_definition_whole_dataframe(code)
    )
    validation = context.validation_definitions.add(gx.ValidationDefinition(name=code, data=batch, suite=suite))
    validation.run(batch_parameters={"dataframe": data}, result_format={"result_format": "SUMMARY"})


def expectations(code: str, data: Any) -> Iterator[Any]:
    """Yield the checks of gate ``features`` that exist as expectations, for every column of the file."""
    from great_expectations import expectations as gxe

    from vpoc_ml.features.registry import REGISTRY

    yield gxe.ExpectTableColumnsToMatchOrderedList(column_list=list(data.columns))
    yield gxe.ExpectTableRowCountToBeBetween(min_value=1)
    yield gxe.ExpectColumnValuesToBeInSet(column="contract", value_set=[code])
    yield gxe.ExpectColumnValuesToBeUnique(column="ts")
    for name in data.columns:
        yield gxe.ExpectColumnValuesToNotBeNull(column=name)
        if name not in REGISTRY:
            continue
        yield gxe.ExpectColumnValuesToNotBeInSet(column=name, value_set=[inf, -inf])
        yield gxe.ExpectColumnUniqueValueCountToBeBetween(column=name, min_value=2)
        yield gxe.ExpectColumnValuesToNotBeOutliers(column=name, method="iqr", multiplier=3.7, mostly=0.8)
        for low, high in (REGISTRY[name].hard, REGISTRY[name].soft):
            if isfinite(low) or isfinite(high):
                bounds = {"min_value": low if isfinite(low) else None, "max_value": high if isfinite(high) else None}
                yield gxe.ExpectColumnValuesToBeBetween(column=name, mostly=0.95, **bounds)


# ---------------------------------------------------------------- tables


def measured(folder: Path, contracts: int, peers: bool) -> None:
    lake, codes, stages = built_lake(folder, contracts)
    print(f"\n{contracts} contracts\n")
    print("| gate | guards | stage, CPU s | clean | dirty | empty column | clean / stage | built-ins clean | dirty |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for gate, stage in GUARDED.items():
        call = gate_call(gate, lake, codes)
        clean = cpu(call, REPEATS)
        others, changed = {}, {}
        if gate != "gate_leakage":
            for kind, change in (("dirty", with_defects), ("empty", without_values)):
                with planted(lake, gate, codes, change):
                    changed[kind] = cpu(call, REPEATS)
                    if kind == "dirty" and gate == COMPARED and peers:
                        others["dirty"] = built_in(lake, codes)
        if gate == COMPARED and peers:
            others["clean"] = built_in(lake, codes)
        found = " | ".join(f"{changed[kind]:.2f}" if kind in changed else "" for kind in ("dirty", "empty"))
        own = {"clean": clean, **changed}
        ratios = [
            f"{others[kind]:.1f} ({others[kind] / own[kind]:.0f}x)" if others else "" for kind in ("clean", "dirty")
        ]
        print(
            f"| {gate} | {stage} | {stages[stage]:.2f} | {clean:.2f} | {found} | {clean / stages[stage]:.2f}"
            f" | {' | '.join(ratios)} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, nargs="+", default=SETS, help="numbers of contracts")
    parser.add_argument("--keep", type=Path, help="folder of the markets, which are kept")
    options = parser.parse_args()
    one_thread_each()
    imports()
    import vpoc_ml.quality.validate
    import vpoc_ml.reports.gate_pages  # noqa: F401

    for contracts in options.sets:
        folder = (options.keep or Path(tempfile.mkdtemp(prefix="gates-"))) / str(contracts)
        try:
            measured(folder, contracts, contracts == min(options.sets))
        finally:
            if options.keep is None:
                shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
