"""Analysis of a run's features, by hand: it needs the training set only and changes nothing that a model sees."""

from __future__ import annotations

from vpoc_ml.pipeline.run import Result, Run, stage


@stage("analyze-features", files=("run", "reports"))
def analyze_features(run: Run) -> Result:
    """Write ``feature-analysis.html`` and ``.json`` among the run's reports.

    Raises:
        MissingInputError: the run has no training set yet.
    """
    from vpoc_ml.analysis.analyze import analyze
    from vpoc_ml.reports.feature_report import write_analysis

    found = analyze(run.folder, run.config)
    page = write_analysis(run.reports / "runs" / run.name, run.name, found)
    rows = sum(found["about"]["rows"].values())
    return {
        "rows_in": rows,
        "rows_out": rows,
        "quarantined": 0,
        "skipped": False,
        "features": len(found["features"]),
        "report": run.lake.uri(page),
    }
