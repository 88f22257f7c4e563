# The commands of this project; `make help` lists them. A fresh clone needs only python3.11.
PYTHON ?= python3.11
BIN := .venv/bin
# What runs, and what develops and tests. A container image installs the first only.
LOCKS := requirements.txt requirements-dev.txt
# One file per content of the locks: the same content is installed once, a changed one again. The target has no
# prerequisite, because a checkout gives the locks a new time and the old content.
INSTALLED := .venv/.installed-$(shell cat $(LOCKS) | sha256sum | cut -c1-16)
MODE ?= signal
ifdef RECIPE
$(warning RECIPE= is now called PRESET=. The next release ignores RECIPE=)
endif
PRESET ?= $(or $(RECIPE),nightly)
PORT ?= 8080
MLFLOW_PORT ?= 5000
REPROCESS ?= none
PARALLEL ?= 4
COMPOSE ?= docker compose
# The option --build-arg of build argument $(1). Its value is the variable $(2) of make, else that of .env; empty without both.
build-arg = $(addprefix --build-arg $(1)=,$(or $($(2)),$(shell sed -n 's/^$(2)=//p' .env 2>/dev/null)))
# settings with which preset smoke shows the planted signal
DEMO_CONF := {"preset": "smoke", "overrides": {"training.epochs": 24, "model.hidden_dims": "32,32", "dataset.train_share": 0.5, "dataset.validation_share": 0.1}}
# Processes of tests, each with whole files: one more than cores, because some tests wait for what they start.
# Files in their order, those that start a whole Airflow first (tests/conftest.py): long files must not come last.
CORES := $(shell nproc 2>/dev/null || echo 2)
WORKERS ?= $(shell echo $$(($(CORES) > 5 ? 6 : $(CORES) + 1)))
# COVERAGE=1 measures coverage and checks its floor. It makes the tests slower.
COVERAGE ?=
SETTINGS = $(foreach setting,$(O),-o '$(setting)')

# Hand-written documents; docs/features.md comes from docstrings, and docs/start.md quotes what a run prints.
PROSE = README.md CONTRIBUTING.md CHANGELOG.md $(filter-out docs/features.md docs/start.md,$(wildcard docs/*.md docs/*/*.md))

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast lint up down backfill contract airflow bench features-page docs lock release clean env images \
	cluster cluster-demo cluster-down cluster-test

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(INSTALLED):
	@command -v $(PYTHON) >/dev/null || { echo "Expected $(PYTHON) on PATH; found none. Install it or set PYTHON="; exit 2; }
	@echo "[1/4] .venv with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# The locks are whole: nothing to resolve. Compiled below, by all cores: not every environment lets programs do it.
	@echo "[2/4] $$(cat $(LOCKS) | grep -c '^[a-z].*==') packages from $(LOCKS): a few minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile $(LOCKS:%=-r %)
	@echo "[3/4] Compiling the packages on all cores"
	@$(BIN)/python -m compileall -q -j 0 -x torch/testing/_internal/py312 .venv/lib
	@echo "[4/4] vpoc-ml itself, and whether the packages fit each other"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -m pip check --disable-pip-version-check
	@rm -f .venv/.installed-* && touch $@

venv: $(INSTALLED) ## The virtual environment .venv, from the locks

demo: $(INSTALLED) ## One complete run in this process [DATA= VIX= MODE=signal|linear|overlap|drifting|martingale PRESET= LAKE= O="key=value ..."]
	@$(BIN)/python -m vpoc_ops.demo $(if $(DATA),--data "$(DATA)") $(if $(VIX),--vix "$(VIX)") --mode $(MODE) \
		--preset $(PRESET) $(if $(LAKE),--lake "$(LAKE)") $(SETTINGS)

test: $(INSTALLED) ## All tests [T="tests/dags -k form" WORKERS=2 or more by cores COVERAGE=1]
	@# Tests start hundreds of processes, and not every environment lets them write bytecode.
	@$(BIN)/python -m compileall -q include dags plugins
	$(BIN)/python -m pytest $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadfile --no-loadscope-reorder) \
		$(if $(COVERAGE),--cov --cov-report=term:skip-covered) $(T)

test-fast: $(INSTALLED) ## The tests without marker slow, in less than two minutes [T=]
	$(BIN)/python -m pytest -m "not slow" $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadfile) $(T)

lint: $(INSTALLED) ## ruff, mypy --strict, the order of the layers, the prose of the documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/proselint --config .proselintrc.json check $(PROSE)

up: $(INSTALLED) ## Airflow on 127.0.0.1 (API server, scheduler, DAG processor, triggerer) and MLflow's UI [PORT=8080 MLFLOW_PORT=5000 LAKE=]
	@$(BIN)/python -m vpoc_ops.supervisor up --port $(PORT) --mlflow-port $(MLFLOW_PORT) $(if $(LAKE),--lake "$(LAKE)")

down: $(INSTALLED) ## Stops what `make up` started
	@$(BIN)/python -m vpoc_ops.supervisor down

backfill: $(INSTALLED) ## Every contract that rolled in a range, on the running Airflow [FROM=2023-01-01 TO=2024-12-31 CONF={json} O= REPROCESS=none|failed|completed PARALLEL=4]
	@$(BIN)/python -m vpoc_ops.backfill range --from "$(FROM)" --to "$(TO)" --reprocess $(REPROCESS) \
		--parallel $(PARALLEL) --conf '$(CONF)' $(SETTINGS)

contract: $(INSTALLED) ## One contract by its partition key, on the running Airflow [KEY=ESH25 CONF= O=]
	@$(BIN)/python -m vpoc_ops.backfill one "$(KEY)" --conf '$(CONF)' $(SETTINGS)

airflow: $(INSTALLED) ## Airflow's own command line on the running Airflow, or airflowctl on one elsewhere [A="dags list"]
	@$(BIN)/python -m vpoc_ops.supervisor airflow $(A)

bench: $(INSTALLED) ## Benchmarks against peers, as ratios
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done
	@echo "== benchmarks/learners.py --short"; $(BIN)/python benchmarks/learners.py --short

features-page: $(INSTALLED) ## docs/features.md and its pictures, from the code
	@$(BIN)/python -m vpoc_ml.reports.feature_reference docs

docs: $(INSTALLED) ## The documentation site in build/site; a broken link or reference is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean --quiet
	@echo "Documentation: build/site/index.html"

lock: $(INSTALLED) ## requirements.txt and requirements-dev.txt from the .in files
	for lock in $(LOCKS); do $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-header --no-emit-index-url \
		--no-emit-find-links --output-file $$lock $${lock%.txt}.in || exit 1; done
	# The compiling machine's wheel may carry a local tag (+cpu); the lock has to resolve on every index.
	sed -i -E 's/^(torch==[^+ ]+)\+[^ ]+/\1/' $(LOCKS)

release: $(INSTALLED) ## Tag the version of pyproject.toml if the tree is clean and the changelog has it; never pushes
	@$(BIN)/python -m vpoc_ops.release

env: ## .env of a cluster: generated passwords and keys, for its owner only; refuses to overwrite
	@PYTHONPATH=include $(PYTHON) -m vpoc_ops.cluster_env

images: ## The container images [TORCH_INDEX= ROCM_TORCH_INDEX= BASE= ROCM_BASE=; docs/cluster.md]
	DOCKER_BUILDKIT=1 docker build --target airflow -t vpoc-ml:airflow \
		$(call build-arg,BASE,BASE) $(call build-arg,TORCH_INDEX,TORCH_INDEX) .
	@if test -f .env && grep -q compose.cpu.yaml .env; then echo "No AMD GPU: no image rocm-worker."; else set -x; \
		DOCKER_BUILDKIT=1 docker build --target rocm-worker -t vpoc-ml:rocm-worker $(call build-arg,BASE,BASE) \
		$(call build-arg,ROCM_BASE,ROCM_BASE) $(call build-arg,TORCH_INDEX,ROCM_TORCH_INDEX) .; fi

cluster: ## Airflow with Celery, PostgreSQL, Redis, MLflow and a GPU worker in containers: builds, starts, waits
	@test -f .env || $(MAKE) --no-print-directory env
	@PYTHONPATH=include $(PYTHON) -m vpoc_ops.cluster_env --keep-sources
	@$(MAKE) --no-print-directory images
	@. ./.env; mkdir -p "$${VPOC_RAW:-data/raw}"
	$(COMPOSE) up --detach --no-build --wait --wait-timeout 600
	@. ./.env; echo "Airflow http://127.0.0.1:$$UI_PORT  MLflow http://127.0.0.1:$$MLFLOW_PORT"; \
		echo "Log in as admin, operator, reviewer or viewer; .env has the passwords, such as ADMIN_PASSWORD."

cluster-demo: ## A synthetic market into the folder of raw files, if it is empty, and a nightly run on the running cluster
	@. ./.env; cd "$${VPOC_RAW:-data/raw}" || exit 1; test -n "$$(ls)" || docker run --rm --user "$$(id -u)" --volume "$$PWD:/raw" \
		"$${VPOC_IMAGE:-vpoc-ml:airflow}" vpoc-ml synth --out /raw --contracts 4 --mode linear
	@$(COMPOSE) exec -T scheduler airflow dags trigger vpoc_nightly --conf '$(DEMO_CONF)' --output json >/dev/null
	@. ./.env; echo "A nightly run has started; it takes a few minutes and ends with a promoted model."; \
		echo "Follow it: http://127.0.0.1:$$UI_PORT/dags/vpoc_nightly. The result: http://127.0.0.1:$$UI_PORT/vpoc-reports/"

cluster-down: ## Stops the cluster; its volumes stay
	@# Workers first: a task cannot report its end to an API server that has stopped, and its worker waits for minutes.
	$(COMPOSE) stop worker worker-rocm
	$(COMPOSE) down

cluster-test: $(INSTALLED) ## Tests on a cluster of their own, from the images [T="-k faults"]
	COMPOSE="$(COMPOSE)" $(BIN)/python -m pytest tests/cluster -v $(T)

clean: ## Removes caches and build outputs; data/, .venv and .airflow stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
