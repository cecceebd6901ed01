.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
EXPERIMENTS := $(basename $(notdir $(wildcard experiments/tables/*.yaml)))  # table6, claims, ...
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

help:  ## List what make can do
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "tables and figures of the paper: $(EXPERIMENTS)"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	touch $@

env: $(VENV)/installed  ## Make the environment in .venv

repro: env  ## Run the whole pipeline (dvc repro)
	$(VENV)/bin/dvc repro

test: env  ## Run the tests
	$(VENV)/bin/pytest

test-slow: env  ## Run the tests that take minutes each: kill -9, several processes
	$(VENV)/bin/pytest -n 0 -m slow

lint: env  ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy stages experiments benchmarks

gate: env  ## Check that dvc.lock and metrics belong to this commit (needs no data)
	$(VENV)/bin/python -m experiments.gate

push: env  ## Push data, and what runs have made, to DVC's remote (docs/teams.md)
	$(VENV)/bin/python -m experiments.push

verify: env  ## Run all stages anew in a clone of the last commit, and compare
	$(VENV)/bin/python -m experiments.verify $(if $(PRESET),--preset $(PRESET)) \
		$(if $(TOLERANCE),--tolerance $(TOLERANCE)) $(if $(AGAIN),--again)

estimate: env  ## Say what a run takes before it is begun: images, hours, memory, disk, price (PRESET=, BASE=, PROCESSES=, JSON=, GPU_PRICE= an hour)
	$(VENV)/bin/python -m experiments.estimate $(if $(PRESET),--preset $(PRESET)) $(if $(BASE),--base $(BASE)) \
		$(if $(PROCESSES),--processes $(PROCESSES)) $(if $(JSON),--json $(JSON))

bench: env  ## Measure the work on this machine's GPU, ten minutes at most (BUDGET= seconds, TINY=1 on a CPU)
	$(VENV)/bin/python -m benchmarks.gpu $(if $(BUDGET),--budget $(BUDGET)) $(if $(TINY),--tiny)

$(EXPERIMENTS): env
	$(VENV)/bin/python -m experiments.run $@

presets: env  ## Write presets/ anew, from presets/toybirds.yaml and experiments/settings/paper_values.py
	$(VENV)/bin/python -m experiments.presets

pretrain: env  ## Train the embedded base anew (hours on a CPU)
	$(VENV)/bin/python -m stages.pretrain

clean:  ## Remove the environment, work in progress and fetched archives
	rm -rf $(VENV) .work

.PHONY: help env repro test test-slow lint gate push verify estimate bench presets pretrain clean $(EXPERIMENTS)
