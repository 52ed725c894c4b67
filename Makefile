# Two commands do everything: `make search` (the main job) and `make test`. Both set up .venv first, once.
PYTHON ?= python3.12
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What the processes of a search import.
IMPORTED := search.driver,search.finish,deeplens_workers.render,trainables.training.work,trainables.psf.learner,trainables.images.learner,torch._dynamo,ray.train.torch,ray.dashboard.agent,ray.dashboard.dashboard
TREE := spaces deeplens_workers trainables results search tests benchmarks docs/site

# The run that pictures and tables of images are of: the newest one that has exported a model of images, or RUN=NAME.
NEWEST = $(firstword $(shell grep -ls '"vae_image"' results/runs/*/model/config.json | xargs -r ls -t))
RUN ?= $(or $(patsubst results/runs/%/model/config.json,%,$(NEWEST)),$(error no finished run of images in results/runs: make train-mnist, or RUN=NAME))

.DEFAULT_GOAL := help
.PHONY: help setup search search-standard test test-slow test-clusters gpu-check lint format docs docs-serve bench lock clean clean-all
.PHONY: train-mnist train-cifar10 eval compare-dae sample viz-recon viz-traverse viz-scatter interpolate

help: ## this list
	@grep -E '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf length($$1) < 16 ? "  make %-16s%s\n" : "  make %s\n%23s%s\n", $$1, length($$1) < 16 ? $$2 : "", $$2}'

setup: $(INSTALLED) ## create .venv with the hash-locked requirements and this project

# The project comes last and without dependencies: its `tune` command takes the place of Ray's, which it extends.
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@# Compiled once, not by each of a search's processes, which halves their CPU seconds; containers often forbid it to later ones.
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c "import $(IMPORTED)"
	@touch $@

search: $(INSTALLED) ## the main job: search the CVAE of the Cooke triplet's PSFs, quick preset
	$(BIN)/python search/run.py --space cvae_psf --preset quick

search-standard: $(INSTALLED) ## the same with the standard preset
	$(BIN)/python search/run.py --space cvae_psf --preset standard

train-mnist train-cifar10: train-%: $(INSTALLED) ## search VAEs of digits, of colour images, quick preset
	$(BIN)/psf-search run --space vae_$* --preset quick

eval compare-dae: $(INSTALLED) ## what a run of images found, a denoising autoencoder beside it; RUN=NAME
	$(BIN)/psf-search analyze $(RUN)

sample viz-recon viz-traverse viz-scatter interpolate: $(INSTALLED) ## its pictures, drawn again; RUN=NAME
	$(BIN)/psf-search figures $(RUN) --only $(FIGURE)
sample: FIGURE := samples
viz-recon: FIGURE := reconstructions
viz-traverse: FIGURE := traversals
viz-scatter: FIGURE := latents
interpolate: FIGURE := interpolations

test: $(INSTALLED) ## the tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(INSTALLED) ## the tests that take half a minute or more each, in two processes
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

test-clusters: $(INSTALLED) ## clusters of machines made of namespaces: ray up, a power cut, Slurm; Linux, as root
	$(BIN)/python -m pytest -m clusters -rs

gpu-check: $(INSTALLED) ## what a GPU has to show, and how fast it is: tests and measurements, in 8 minutes
	$(BIN)/python -m benchmarks.gpu

lint: $(INSTALLED) ## ruff and mypy on the whole tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TREE)

format: $(INSTALLED) ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs docs-serve: export NO_MKDOCS_2_WARNING := 1# which no build is about

docs: $(INSTALLED) ## the documentation as a site, in build/site
	$(BIN)/mkdocs build --quiet

docs-serve: $(INSTALLED) ## the same at http://127.0.0.1:8000, made anew when a page changes
	$(BIN)/mkdocs serve --no-strict --dev-addr 127.0.0.1:8000

bench: $(INSTALLED) ## every benchmark, one after another
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

lock: ## compile requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.12 --generate-hashes \
		--no-header --output-file requirements.lock

clean: ## remove runs and what tools have cached or built
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info results/runs
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## remove .venv and the prepared data too
	rm -rf $(VENV) results/cache
