"""Gate ``leakage``: the leakage proof of the code, made once per build key, and a sample of every night."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from vpoc_ml.artifacts import layout
from vpoc_ml.artifacts.leakage_proof import LeakageCheckResult, LeakageProof
from vpoc_ml.artifacts.stage_results import UNCHANGED, LeakageGateResult
from vpoc_ml.config import RunConfig
from vpoc_ml.features.history import required_history
from vpoc_ml.features.registry import ALL_FEATURES, selected_features
from vpoc_ml.lake.atomic import write_json
from vpoc_ml.lake.code_digest import code_digest, library_versions
from vpoc_ml.lake.mirror import cache_folder
from vpoc_ml.market.contracts import parse_contract
from vpoc_ml.pipeline.feature_inputs import History, pair_closes
from vpoc_ml.pipeline.plan_stage import covariate_values, vix_closes
from vpoc_ml.pipeline.run import Run, stage

PROVEN = ("vpoc_ml.leakage.prove", "vpoc_ml.leakage.product_builders")
ProofKey = dict[str, str]
KNOWN: dict[str, LeakageProof] = {}  # by build key: a proof is never out of date for its own key


@stage
def gate_leakage(run: Run, contracts: list[str]) -> LeakageGateResult:
    """Run the leakage checks of the code, and those of the newest front contract's stored features.

    The proof is an artifact, ``leakage/proof.json``. It is made again when the code, a library it computes with, the
    list of features or a setting of profile, features or dataset changes, and read on all other nights. A proof made
    on this machine for the same build key serves every lake.

    Raises:
        GateFailedError: a check found a violation; the error carries the verdict.
    """
    from vpoc_ml.leakage.comparison import check_results
    from vpoc_ml.leakage.prove import CHECK_DESCRIPTIONS
    from vpoc_ml.pipeline.gate_stages import published_verdict
    from vpoc_ml.quality.gates import raise_if_failed, validate_leakage

    proof, reason = stored_proof(run)
    key = run.roll_key()
    rolls = run.lake.read_cached(key).sort("first_session")["contract"].to_list() if run.lake.manifest(key) else []
    fronts = [each for each in rolls if each in contracts]  # without a roll table, the contract that expires last
    contract = fronts[-1] if fronts else max(contracts, key=lambda code: parse_contract(code).expiry)
    verdict = validate_leakage(
        contract,
        proved=check_results(proof.comparisons, proof.violations, CHECK_DESCRIPTIONS),
        sampled=_sampled(run, contract),
        run=run.name,
        reports_dir=run.reports,
        now=run.started,
    )
    raise_if_failed(verdict := published_verdict(run, verdict))
    largest_t = proof.largest_t.model_dump(mode="json")
    return LeakageGateResult.of(verdict, largest_t=largest_t, proof=reason or UNCHANGED)


def prove_code(config: RunConfig) -> LeakageProof:
    """Return the leakage proof of the features, the training set and the folds that ``config`` selects."""
    from vpoc_ml.leakage.product_builders import feature_builder, training_set_builder, walk_forward_builder
    from vpoc_ml.leakage.prove import config_for_proof, prove

    extras, profile = config.features.extras, config.profile
    sized = config_for_proof(config)
    return prove(
        feature_builder(profile),
        ALL_FEATURES,
        training_set_builder(sized),
        walk_forward_builder(sized),
        sized.dataset,
        extended=feature_builder(profile, extras) if extras else None,
        history=required_history(extras).history,
    )


def stored_proof(run: Run) -> tuple[LeakageProof, str | None]:
    """Return the proof of this code and the reason it was made, None if the lake has it. A failed one is made again.

    A proof for the same build key comes from this process, else from this machine, else it is made.
    """
    build_key = {
        "code": code_digest(*PROVEN),
        "config": run.config.digest("profile", "features", "dataset"),
        "features": ", ".join(selected_features(run.config.features.extras)),
        "libraries": ", ".join(f"{name} {version}" for name, version in library_versions(*PROVEN).items()),
    }
    stored = _parse(run.lake.read_checksummed_json(layout.LEAKAGE_PROOF))
    reason = _stale_reason(stored, build_key)
    if stored is not None and reason is None:
        return stored, None
    with run.lake.writing("leakage"):
        digest = hashlib.sha256(json.dumps(build_key, sort_keys=True).encode()).hexdigest()[:16]
        local = cache_folder() / "proofs" / f"{digest}.json"
        proof = KNOWN.get(digest)
        if proof is None:
            with suppress(OSError, ValueError):  # not there, or damaged: a new proof replaces it
                remembered = _parse(json.loads(local.read_text()))
                proof = remembered if _stale_reason(remembered, build_key) is None else None
        if proof is None:
            proof = prove_code(run.config).model_copy(update={"build_key": build_key})
            write_json(local, proof.to_json())
        if proof.passed:
            KNOWN[digest] = proof
        run.lake.write_checksummed_json(layout.LEAKAGE_PROOF, proof.to_json())
    return proof, reason


def _parse(stored: Any) -> LeakageProof | None:
    """Return a stored proof; None where there is none, or one that this version cannot read."""
    try:
        return LeakageProof.model_validate(stored)
    except ValidationError:
        return None


def _stale_reason(stored: LeakageProof | None, build_key: ProofKey) -> str | None:
    """Return the reason why a stored proof is not valid for this build key; None when it is."""
    if stored is None:
        return "new"
    if not stored.passed:
        return "the stored proof failed"
    changed = sorted(name for name in build_key if stored.build_key.get(name) != build_key[name])
    return f"changed: {', '.join(changed)}" if changed else None


def _sampled(run: Run, contract: str) -> list[LeakageCheckResult]:
    """Return the results of the nightly sample: stored features compared with those of fewer and of other bars."""
    from vpoc_ml.leakage.comparison import Market, check_results
    from vpoc_ml.leakage.invariance import check_sample
    from vpoc_ml.leakage.product_builders import feature_builder, streamed
    from vpoc_ml.leakage.prove import CHECK_DESCRIPTIONS

    features, manifest = run.lake.load(run.key("features", contract))
    bars, described = run.lake.load(run.key("bars", contract))
    predecessor = History(run, contract, manifest).predecessor()
    pair = pair_closes(run, described)
    market = Market(bars, vix_closes(run), run.instrument, predecessor, pair, covariate_values(run))
    extras, profile = run.config.features.extras, run.config.profile

    found = check_sample(
        feature_builder(profile, extras),
        lambda given, rows, skip: streamed(given, rows, profile, extras, skip),
        market,
        features,
        seed=int(hashlib.sha256(run.name.encode()).hexdigest()[:8], 16),
        history=required_history(extras).history,
    )
    return check_results(found.comparisons, found.violations, CHECK_DESCRIPTIONS)
