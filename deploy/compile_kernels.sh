# Compiles every kernel that a run uses, into NUMBA_CACHE_DIR, and lists the fonts of charts, in MPLCONFIGDIR: runs the
# pipeline once on a small synthetic market.
set -eu
lake=$(mktemp -d)
export VPOC_LAKE="$lake/lake" VPOC_REGISTRY="$lake/registry" VPOC_CACHE="$lake/cache"
export HOME="$lake" GX_ANALYTICS_ENABLED=False MLFLOW_DISABLE_TELEMETRY=true
vpoc-ml synth --out "$lake/raw" --contracts 3 >"$lake/log"
vpoc-ml run kernels --raw "$lake/raw" --preset smoke >>"$lake/log" 2>&1 || { cat "$lake/log"; exit 1; }
rm -rf "$lake"
chown -R 50000:0 "$NUMBA_CACHE_DIR" "$MPLCONFIGDIR"
