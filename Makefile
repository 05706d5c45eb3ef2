comma := ,
VENV ?= .venv
PYTHON ?= python3
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
WORKERS ?= 2
FULL = RECNEXT_FULL_EXPORTS=1 OMP_NUM_THREADS=1

.PHONY: demo test test-fast test-lowest test-hostile test-export lint docs clean

demo: $(VENV)/.train
	$(VENV)/bin/recnext demo

test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal --durations 15

test-fast: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow'

# The fast tests on exactly the lower bounds that pyproject.toml declares.
LOWEST = detection,data,video,explain,fast,serve,test

test-lowest: .venv-lowest/.done
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow'

.venv-lowest/.done: pyproject.toml tests/lowest.py
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python tests/lowest.py $(subst $(comma), ,$(LOWEST)) > .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip --disable-pip-version-check install --quiet --constraint .venv-lowest/pins.txt \
		--editable '.[$(LOWEST)]'
	touch $@

# For a night: a hundred kills, ten thousand requests.
test-hostile: $(VENV)/.dev
	RECNEXT_KILLS=100 RECNEXT_SOAK=10000 $(VENV)/bin/python -m pytest tests/hostile tests/engine/test_random_kills.py

# The files for phones at full depth, each in the environment of its own that docs/export-phones.md describes.
test-export: $(VENV)/.dev .venv-executorch/.done .venv-litert/.done
	$(FULL) $(VENV)/bin/python -m pytest -rs tests/deploy/export/test_coreml.py
	$(FULL) .venv-executorch/bin/python -m pytest -rs tests/deploy/export/test_executorch.py
	$(FULL) .venv-litert/bin/python -m pytest -rs tests/deploy/export/test_litert.py

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/.docs
	$(VENV)/bin/mkdocs build --strict

# One stamp a set of extras, so that neither command installs more than it needs.
$(VENV)/.dev $(VENV)/.train $(VENV)/.docs: $(VENV)/.%: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

.venv-%/.done: pyproject.toml constraints.txt constraints-phones.txt
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--constraint constraints-phones.txt --editable '.[$*]' 'pytest>=8'
	touch $@

clean:
	rm -rf $(VENV) .venv-executorch .venv-litert .venv-lowest runs site .pytest_cache .mypy_cache .ruff_cache
