# make demo   install, and fine-tune on the bundled sample, offline
# make test   install, and run the tests
# make coverage   the tests again, slower, and the share of lines and branches that they reach
# make lint   what CI checks beside the tests: style, types, a fresh compiled/
# make images build the two images: REGISTRY=registry.example.org/team/ TAG=... ENGINE=podman BASE=python:3.11-slim@sha256:...
PYTHON ?= python3.11
BIN := .venv/bin

ENGINE ?= docker
BASE ?= python:3.11-slim
TAG ?= $(shell sed -n 's/__version__ = "\(.*\)"/\1/p' ragtune/__init__.py)

.PHONY: demo test coverage lint images clean

demo: .venv/.installed
	HF_HUB_OFFLINE=1 $(BIN)/python pipeline.py run --params params/demo.yaml

test: .venv/.installed-test
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

coverage: .venv/.installed-test
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python pipeline.py compile --check

images:
	for name in data train; do $(ENGINE) build --file images/$$name/Dockerfile --tag $(REGISTRY)ragtune-$$name:$(TAG) \
	    --build-arg BASE=$(BASE) --build-arg IMAGE=$(REGISTRY)ragtune-$$name:$(TAG) \
	    --build-arg GIT_REVISION=$$(git rev-parse HEAD) . || exit 1; done

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

.venv/.installed-test: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ .venv/.installed

clean:
	rm -rf .venv runs build dist *.egg-info
