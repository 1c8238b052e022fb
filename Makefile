# Everything a newcomer and a developer do. `make help` lists it.
PYTHON ?= python3
EXTRAS ?=
# Not `?=`: a VENV of the shell is somebody else's. `make VENV=folder` chooses another.
VENV := .venv
BIN := $(VENV)/bin
INSTALL = POLYPLANE_VENV=$(VENV) $(PYTHON) infra/locks/install.py --extras "$(EXTRAS)"
SOURCES := services planes tests
LITELLM := 1.106.2
STORES := tests/contract tests/integration/stores tests/integration/gateway/auth/test_redis_layouts.py
# Packages are compiled once, not by every process: a start takes seconds less.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup up down status logs doctor demo test test-stores test-qwen unit fmt lint types e2e lock migrate clean audit security fault-drill copy-drill load-test benchmark benchmark-peers compose-up compose-down image-size

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Make .venv with the developers' tools (EXTRAS="ocr qwen": scanned pages, local language models)
	@$(INSTALL) --dev

up: ## Install what is missing and start the platform (EXTRAS=qwen as above)
	@$(INSTALL)
	@$(BIN)/polyplane up

down: ## Stop the platform; its data stays
	@$(BIN)/polyplane down

status: ## Show each part's state and memory
	@$(BIN)/polyplane status

logs: ## Follow the logs of all parts
	@$(BIN)/polyplane logs --follow

doctor: ## Say what is missing or broken, and how to mend it
	@$(BIN)/polyplane doctor

demo: ## Upload documents, ask three questions, check the citations
	@$(INSTALL)
	@$(BIN)/polyplane demo

test: lint types audit ## Check and test everything; test-stores is part of it
	$(BIN)/pytest -n 2 --dist loadfile tests/unit tests/contract tests/integration tests/architecture
	$(BIN)/pytest -n 2 --dist loadgroup tests/e2e

test-stores: setup ## Test every adapter of a store on its server, and print which ran on what
	$(BIN)/pytest -n 2 --dist loadfile $(STORES)

test-qwen: ## Test the local language model, in an environment of its own (PyTorch: 3 GB to download)
	@$(MAKE) --no-print-directory VENV=.venv-qwen EXTRAS=qwen setup
	.venv-qwen/bin/pytest tests/unit/serving/test_qwen.py tests/unit/serving/test_cross_encoder.py

unit: setup ## Run the fast tests
	$(BIN)/pytest tests/unit

e2e: setup ## Start a platform and test it by HTTP
	$(BIN)/pytest -n 2 --dist loadgroup tests/e2e

fault-drill: setup ## Kill parts at every step of the ingestion, and every store, ROUNDS=20 times; SEED=105 says where
	ROUNDS=$${ROUNDS:-20} E2E_PLATFORMS=embedded,exact $(BIN)/pytest -s tests/e2e/test_fault_drill.py tests/e2e/test_store_drill.py

load-test: ## Let USERS=1000 people with THINK_S=60 work on the running platform for DURATION=5m; LOCUST_UI=1 serves a page
	@$(MAKE) --no-print-directory EXTRAS=load setup
	$(BIN)/python -m tests.load

benchmark: ## Measure PARTS=gateway,... (else all) beside bare loops, ROUNDS=7 times; polyplane benchmark compares
	@$(MAKE) --no-print-directory EXTRAS=load setup
	$(BIN)/python -m tests.benchmarks; measured=$$?; $(BIN)/python -m tests.benchmarks.plots && exit $$measured

benchmark-peers: ## Measure LiteLLM's proxy under the gateway's load, in an environment of its own (.venv-peers, 150 MB to download)
	@$(MAKE) --no-print-directory EXTRAS=load setup
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet 'litellm[proxy]==$(LITELLM)'
	PARTS=gateway,peers $(BIN)/python -m tests.benchmarks; measured=$$?; $(BIN)/python -m tests.benchmarks.plots && exit $$measured

copy-drill: setup ## Move CHUNKS=100000 to another store (TO=mongo or qdrant) and back, killed on the way
	$(BIN)/python -m tests.evaluation.copying.drill --to $${TO:-mongo} --chunks $${CHUNKS:-100000}

fmt: setup ## Format, and mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lint: setup ## Check style, format and the dependency rule
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports

types: setup ## Check types
	$(BIN)/mypy

audit: ## Scan the code, the repository and the locked packages for holes and secrets
	$(BIN)/python infra/security/audit.py

security: setup audit ## Try to break in: rights, isolation, forged tokens, malformed requests
	$(BIN)/pytest tests/integration/gateway/security tests/unit/gateway/auth

compose-up: ## Start the platform in server mode by docker compose; secrets are made the first time
	@$(PYTHON) infra/compose/make_secrets.py
	docker compose up --build --detach --wait gateway dagster-daemon prometheus grafana otel-collector

compose-down: ## Stop what compose-up started; its data stays (docker compose down --volumes deletes it)
	docker compose down

image-size: ## Install the gateway's lock as its image does, and measure it
	@infra/images/measure.sh

lock: setup ## Make the locks in infra/locks anew
	UV=$${UV:-$$(command -v uv || echo .venv-tools/bin/uv)} infra/locks/lock.sh

migrate: ## Bring the running database to this version's schema
	@$(BIN)/polyplane migrate

clean: ## Remove .venv and caches; data in .polyplane stays (polyplane reset deletes it)
	rm -rf .venv .venv-tools .venv-qwen .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
