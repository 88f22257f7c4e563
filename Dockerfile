# Two images: `airflow` (every part of a cluster but the GPU worker) and `rocm-worker`. Both have the same Python minor
# and the same lock; only torch differs. docs/cluster.md describes how to build them.
#
# BASE, ROCM_BASE: images like Debian with python3.11 and its venv module.
ARG BASE=python:3.11-slim-bookworm
ARG ROCM_BASE=python:3.11-slim-bookworm

FROM ${BASE} AS deps
RUN --mount=type=bind,source=deploy/prepare_base.sh,target=/prepare_base.sh sh /prepare_base.sh
ENV PATH=/opt/vpoc/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3.11 -m venv /opt/vpoc
COPY requirements.txt /opt/vpoc/
# The lock is whole: nothing to resolve. torch comes later. The image's user may not write bytecode: it is compiled here.
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -v '^torch==' /opt/vpoc/requirements.txt >/tmp/without-torch.txt \
 && pip install --quiet --no-deps --no-compile -r /tmp/without-torch.txt \
 && python -m compileall -q -j 0 /opt/vpoc/lib

# torch for the CPU: a wheel in deploy/wheels/cpu, or TORCH_INDEX. The wheel of the public index is the one for CUDA.
FROM deps AS deps-cpu
ARG TORCH_INDEX
RUN --mount=type=bind,source=deploy,target=/deploy sh /deploy/install_torch.sh /deploy/wheels/cpu "${TORCH_INDEX}" \
 && python -c 'import torch'

# The package, and its kernels compiled for one kind of CPU, so that no task compiles them and every machine computes
# the same bits. NUMBA_CPU: a name of LLVM's; x86-64-v3 is every x86 CPU with AVX2 (since 2013), generic is any.
FROM deps-cpu AS package
ARG NUMBA_CPU=x86-64-v3
COPY pyproject.toml README.md /src/
COPY include /src/include
# One time for all files: a cached kernel is valid for the time of its source, and an image keeps whole seconds only.
RUN --mount=type=cache,target=/root/.cache/pip \
    cp -r /src /tmp/src && pip install --quiet --no-deps --no-build-isolation --no-compile /tmp/src && rm -r /tmp/src \
 && cd /opt/vpoc/lib/python3.11/site-packages && find vpoc_* -exec touch -d 2000-01-01T00:00:00Z {} + \
 && python -m compileall -q vpoc_*
ENV NUMBA_CPU_NAME=${NUMBA_CPU} NUMBA_CPU_FEATURES= NUMBA_CACHE_DIR=/opt/airflow/numba MPLCONFIGDIR=/opt/airflow/fonts
RUN --mount=type=bind,source=deploy/compile_kernels.sh,target=/compile_kernels.sh sh /compile_kernels.sh \
 && mkdir /package && cp -a --parents /opt/vpoc/bin/vpoc-ml /opt/vpoc/lib/python3.11/site-packages/vpoc_* \
    /opt/airflow/numba /opt/airflow/fonts /package

FROM deps-cpu AS airflow
ARG NUMBA_CPU=x86-64-v3
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    GX_ANALYTICS_ENABLED=False \
    MLFLOW_DISABLE_TELEMETRY=true \
    NUMBA_CPU_NAME=${NUMBA_CPU} NUMBA_CPU_FEATURES= NUMBA_CACHE_DIR=/opt/airflow/numba MPLCONFIGDIR=/opt/airflow/fonts \
    VPOC_LAKE=/lake VPOC_REGISTRY=/registry VPOC_CACHE=/cache \
    PYTHONUNBUFFERED=1
COPY --from=package /package /
COPY dags /opt/airflow/dags
COPY plugins /opt/airflow/plugins
RUN pip check
USER 50000:0
WORKDIR /opt/airflow
CMD ["airflow", "version"]

# The GPU worker. If the python3.11 of ROCM_BASE has torch, that torch is used and never replaced; otherwise a ROCm wheel
# of the locked version comes from deploy/wheels/rocm or TORCH_INDEX. EXPECT_HIP=0 accepts a torch without ROCm.
FROM ${ROCM_BASE} AS rocm-worker
ARG TORCH_INDEX
ARG EXPECT_HIP=1
ARG NUMBA_CPU=x86-64-v3
RUN --mount=type=bind,source=deploy/prepare_base.sh,target=/prepare_base.sh sh /prepare_base.sh
ENV PATH=/opt/vpoc/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY --from=deps /opt/vpoc /opt/vpoc
RUN --mount=type=bind,source=deploy,target=/deploy sh /deploy/use_torch_of_base.sh \
 || sh /deploy/install_torch.sh /deploy/wheels/rocm "${TORCH_INDEX}"
RUN EXPECT_HIP=${EXPECT_HIP} python -c 'import os, torch; print(torch.__version__, torch.__file__, torch.version.hip); \
assert torch.version.hip or os.environ["EXPECT_HIP"] == "0", \
"Expected a ROCm build of torch; found " + torch.__version__ + ". Set TORCH_INDEX, or put the wheel into deploy/wheels/rocm."'
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    GX_ANALYTICS_ENABLED=False \
    MLFLOW_DISABLE_TELEMETRY=true \
    NUMBA_CPU_NAME=${NUMBA_CPU} NUMBA_CPU_FEATURES= NUMBA_CACHE_DIR=/opt/airflow/numba MPLCONFIGDIR=/opt/airflow/fonts \
    VPOC_LAKE=/lake VPOC_REGISTRY=/registry VPOC_CACHE=/cache \
    PYTHONUNBUFFERED=1
COPY --from=package /package /
COPY dags /opt/airflow/dags
COPY plugins /opt/airflow/plugins
RUN pip check
USER 50000:0
WORKDIR /opt/airflow
CMD ["airflow", "version"]
