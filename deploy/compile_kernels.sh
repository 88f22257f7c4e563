# Compiles every kernel into NUMBA_CACHE_DIR and lists the fonts of charts in MPLCONFIGDIR: runs the pipeline once on a
# small synthetic market, with the families of features that have kernels and with the engine that has one (small batches).
set -eu
lake=$(mktemp -d)
export VPOC_LAKE="$lake/lake" VPOC_REGISTRY="$lake/registry" VPOC_CACHE="$lake/cache"
export HOME="$lake" GX_ANALYTICS_ENABLED=False MLFLOW_DISABLE_TELEMETRY=true
vpoc-ml synth --out "$lake/raw" --contracts 3 >"$lake/log"
vpoc-ml run kernels --raw "$lake/raw" --preset smoke -o features.extras=garch,alpha158 -o training.batch_size=16 \
    -o training.epochs=1 >>"$lake/log" 2>&1 || { cat "$lake/log"; exit 1; }
rm -rf "$lake"
chown -R 50000:0 "$NUMBA_CACHE_DIR" "$MPLCONFIGDIR"
