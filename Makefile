# make demo   train a translator on the corpus that ships, print its BLEU and some translations (minutes)
# make demo-gpt   train a GPT on the source of Python's standard library, print its bits per byte, let it write (minutes)
# make test   lint, type check, then the whole fast suite
# make lint   ruff and mypy only
# make slow   the tests that take longer, and the chapters of docs/learn on every text that lies in data/
# make test-web   the page of the server, used by an installed Chromium, or the one that CHROMIUM names
# make docs   the site of docs/ and the docstrings, build/docs/site/index.html: examples and chapters run, links are followed
# make pictures   the picture of the page that README opens with, of what make demo trained
# make gpu   all that waits for a GPU, measured on one in nine minutes: runs/gpu/gpu.md; needs no install (docs/gpu_measure.md)
# make gpu-rehearse   the same code on the CPU with tiny sizes, to see whether it works (two minutes)
# make gpu-wheels   packages that a bare GPU machine lacks, to take along
# make results   tables and charts of docs/ from what was measured; with PART=zoo that part is measured first, on this machine
#   (hours; the parts: recipes/benchmarks/results_parts.py), with more options for its command: OPTIONS="--rounds 1"
# make faults   runs are killed, files damaged, inputs wrong, the machine busy: counts, and status 2 if one is bad
#
# Needs a package registry and Python 3.11, on which the tests run; a newer one is taken, too. A certain one: PYTHON=...

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo demo-gpt test lint slow test-web docs pictures gpu gpu-rehearse gpu-wheels results faults install

PART ?=
OPTIONS ?=
MACHINE ?=
COMMIT ?=
PYTHON ?= python3.11 python3.12 python3.13 python3.14 python3  # the first that will do
VENV ?= .venv
WORKERS ?= 2

demo: $(VENV)/installed
	$(VENV)/bin/python data/numbers/prepare.py
	$(VENV)/bin/python recipes/translation/train.py recipes/translation/numbers.yaml
	$(VENV)/bin/transformer-zoo evaluate runs/numbers --split test
	head -n 8 data/numbers/test.en | $(VENV)/bin/transformer-zoo translate runs/numbers \
	  | paste -d '\n' <(head -n 8 data/numbers/test.en) -

demo-gpt: $(VENV)/installed
	$(VENV)/bin/python data/python_source/prepare.py
	$(VENV)/bin/python recipes/gpt/train.py recipes/gpt/python_source.yaml
	$(VENV)/bin/transformer-zoo evaluate runs/python_source --file data/python_source/val.txt
	@$(VENV)/bin/python -c "import lzma; text = open('data/python_source/val.txt', 'rb').read(); \
	  print(f'lzma on the same file: {8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text):.4f} bits per byte')"
	$(VENV)/bin/transformer-zoo generate runs/python_source --seed 1 --max-new-tokens 200 \
	  --prompt $$'def read_lines(path):\n    """'

test: lint
	$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile

lint: $(VENV)/test-installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

slow: $(VENV)/test-installed
	$(VENV)/bin/python -m pytest -m slow
	$(VENV)/bin/python -m pytest tests/test_learn.py

test-web: $(VENV)/test-installed
	$(VENV)/bin/python -m pytest -m web tests/web

docs: $(VENV)/test-installed
	$(VENV)/bin/python -m pytest -m 'slow or not slow' tests/test_docs.py tests/test_examples.py
	$(VENV)/bin/python -m tests.website

pictures: $(VENV)/test-installed
	$(VENV)/bin/python -m tests.web.picture runs/numbers docs/pictures/page.png

# On a bare machine: with its own Python and its own torch.
gpu:
	python3 recipes/benchmarks/gpu.py $(if $(PART),--part $(PART)) $(if $(COMMIT),--commit $(COMMIT))

gpu-rehearse: $(VENV)/test-installed
	$(VENV)/bin/python recipes/benchmarks/gpu.py --rehearse

gpu-wheels: $(VENV)/installed
	$(VENV)/bin/python recipes/benchmarks/gpu_wheels.py

results: $(VENV)/test-installed
	$(VENV)/bin/python recipes/benchmarks/results.py $(PART) $(if $(OPTIONS),--options="$(OPTIONS)") \
	  $(if $(MACHINE),--machine="$(MACHINE)")

faults: $(VENV)/test-installed
	$(VENV)/bin/python -m tests.faults

install: $(VENV)/installed

# The stamps are written last: an install that was interrupted is done again.
$(VENV)/installed: pyproject.toml constraints.txt
	@found=; \
	for python in $(PYTHON); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: found no Python 3.11 or newer with venv (Debian, Ubuntu: install python3-venv); name one with PYTHON=..." >&2; \
	  exit 1; \
	fi; \
	echo "installing into $(VENV) with $$found; this takes a minute or two"; \
	"$$found" -m venv "$(VENV)"
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[serve]'
	touch $@

$(VENV)/test-installed: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@
