# The two that matter: `make demo` and `make test`. Each makes its own environment in .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-services demo-bucket demo-spark test services services-stop check docs bench soak clean constraints dist
.PHONY: installed-services style types types-darwin collected

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?=
ARGS ?=
export VENV PYTHON
# Where it is set, every process compiles the package anew, and pytest rewrites every test file: twice the time.
unexport PYTHONDONTWRITEBYTECODE

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Options: ARGS='…' (passed on), WORKERS=4 (test processes), PYTHON=python3.11, VENV=.venv"

# Stamped on what decides its content, so that a second call is instant and needs no network.
$(READY): pyproject.toml constraints.txt scripts/make_venv.sh
	@echo "Preparing $(VENV) (first time: a few minutes)"
	@scripts/make_venv.sh
	@touch $@

demo: $(READY) ## Run the demo, embedded, into demo-output/
	$(BIN)/asof demo --output demo-output $(ARGS)

demo-services: $(READY) ## Start PostgreSQL, Kafka, Redis and S3, and run the demo on the first three, into demo-output/
	@scripts/install_services.sh
	@servers=$$($(BIN)/python -m tests.services start postgres kafka redis s3) && eval "$$servers" && \
	$(BIN)/asof demo --output demo-output --postgres "$$ASOF_POSTGRES" --kafka "$$ASOF_KAFKA" --redis "$$ASOF_REDIS" $(ARGS)
	@echo && echo "The servers go on; make services-stop ends them. make demo-bucket runs the demo with a bucket."

demo-bucket: $(READY) ## The same with the store in a bucket of S3 in place of PostgreSQL
	@scripts/install_services.sh
	@servers=$$($(BIN)/python -m tests.services start postgres kafka redis s3) && eval "$$servers" && \
	export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY && $(BIN)/asof demo --output demo-output --storage "$$ASOF_STORAGE" \
	    --storage-endpoint "$$ASOF_S3" --kafka "$$ASOF_KAFKA" --redis "$$ASOF_REDIS" --project asof_bucket $(ARGS) && \
	echo && echo "Keys for these: export AWS_ACCESS_KEY_ID=$$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$$AWS_SECRET_ACCESS_KEY"
	@echo "The servers go on; make services-stop ends them."

demo-spark: $(READY) ## The same with history computed by Sail, a server of Spark Connect
	@scripts/install_services.sh
	@servers=$$($(BIN)/python -m tests.services start kafka redis s3) && eval "$$servers" && \
	export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION=us-east-1 AWS_ALLOW_HTTP=true \
	    AWS_ENDPOINT="$$ASOF_S3" AWS_ENDPOINT_URL="$$ASOF_S3" && \
	servers=$$($(BIN)/python -m tests.services start sail) && eval "$$servers" && \
	$(BIN)/asof demo --output demo-output --offline spark --spark "$$ASOF_SAIL" --storage "$$ASOF_STORAGE" \
	    --storage-endpoint "$$ASOF_S3" --kafka "$$ASOF_KAFKA" --redis "$$ASOF_REDIS" --project asof_spark $(ARGS) && \
	echo && echo "Keys for these: export AWS_ACCESS_KEY_ID=$$AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$$AWS_SECRET_ACCESS_KEY"
	@echo "The servers go on; make services-stop ends them."

# More processes than two cores: half of the time a test waits for a server, a worker or a disk.
test: $(READY) ## Run everything that must pass: style, architecture, types, unit and integration tests
	@$(MAKE) --no-print-directory -j 3 installed-services types types-darwin style collected
	$(BIN)/python -m pytest tests/unit tests/typing tests/conformance tests/embedded tests/integration --durations=15 -n $(or $(WORKERS),4) --dist loadfile -m "not soak" --hypothesis-seed=0 -rs $(ARGS)

services: $(READY) ## Start PostgreSQL, Redis, Kafka, a schema registry, and print where they are (ARGS='postgres redis')
	@scripts/install_services.sh
	@$(BIN)/python -m tests.services start $(ARGS)

services-stop: $(READY) ## Stop the servers of `make services`, and remove their data
	@$(BIN)/python -m tests.services stop

check: $(READY) ## Run the fast part: style, architecture, types, unit tests
	@$(MAKE) --no-print-directory -j 2 style types
	$(BIN)/python -m pytest tests/unit -q -n $(or $(WORKERS),2) --dist loadgroup -m "not slow and not soak" -rs $(ARGS)

# pytest rewrites the assertions of every test file: once here, or at the same time in each of its processes.
collected: $(READY)
	@$(BIN)/python -m pytest --collect-only -q -m "not soak" > .pytest_collected || { cat .pytest_collected; exit 1; }
	@tail -n 1 .pytest_collected

installed-services: $(READY)
	@scripts/install_services.sh spark

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

# A cache of its own: each platform's run makes the other's cache stale.
types-darwin: $(READY)
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

docs: $(READY) ## Write the generated pages and the picture of docs/ again
	$(BIN)/python scripts/generate_docs.py $(ARGS)
	$(BIN)/python scripts/draw_architecture.py

bench: $(READY) ## Measure the figures (ARGS='--quick', ARGS='import')
	@scripts/install_services.sh spark
	$(BIN)/python benchmarks/run.py $(ARGS)

soak: $(READY) ## Run the long tests
	@scripts/install_services.sh spark
	$(BIN)/python -m pytest tests -m soak -rs --timeout=7200 $(ARGS)

dist: $(READY) ## Build wheel and sdist into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python scripts/check_dist.py dist

constraints: ## Write constraints.txt again: the newest versions that pyproject.toml admits (network)
	scripts/write_constraints.sh

clean: ## Remove what the other targets made, but for .venv
	rm -rf demo-output build dist benchmarks/results .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .pytest_collected
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
