# `make` alone lists what can be made.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

venv := .venv
bin := $(venv)/bin
share := build/share
pip := -m pip --disable-pip-version-check --quiet
checked := $(wildcard src tests bench tools)

system_python := PATH=/usr/local/bin:/usr/bin:/bin tools/setup --python

parallel := --numprocesses auto --dist worksteal

# Thousands of processes: each would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

# Freezing needs root. Only the program itself is run with it, never pip or make.
as_root := $(if $(filter-out 0,$(shell id -u)),sudo env PATH="$$PATH:/usr/sbin:/sbin")

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

.PHONY: demo
demo: setup $(venv)/.run ## see it: live backups against frozen ones, on a temporary disk
	$(as_root) $(bin)/holdstill demo $(ARGS)

.PHONY: test
test: setup-test $(venv)/.dev ## the whole suite, as root; ARGS="-k name" for a part
	$(as_root) $(bin)/pytest $(parallel) $(ARGS)

.PHONY: coverage
coverage: setup-test $(venv)/.dev ## the same, measured: what each process has executed
	@$(as_root) $(bin)/coverage erase
	$(as_root) $(bin)/coverage run -m pytest $(parallel) $(ARGS); status=$$?; \
	$(as_root) $(bin)/coverage combine --quiet; $(as_root) $(bin)/coverage report; exit $$status

.PHONY: soak
soak: setup-test $(venv)/.dev ## the tests that take hours; ARGS="--percent 1" for a look
	$(as_root) $(bin)/pytest -m soak --timeout 0 $(parallel) $(ARGS)

.PHONY: bench
bench: setup-test $(venv)/.dev ## measure against plain restic and the shell script
	$(call install-in,build/installed,)
	$(as_root) $(bin)/python -m bench $(ARGS)

.PHONY: lint
lint: $(venv)/.dev ## ruff, mypy and the layers
	$(bin)/ruff check $(checked)
	$(bin)/ruff format --check $(checked)
	$(bin)/mypy $(checked)
	$(bin)/lint-imports --no-logo

.PHONY: check
check: lint ## lint, and the tests that need neither root nor kernel
	$(bin)/pytest --without-kernel $(ARGS)

.PHONY: docs
docs: $(venv)/.dev ## man pages and shell completions, into build/share; the references in docs
	$(bin)/python tools/docs.py $(share)
	$(bin)/python -m tools.reference docs

# Not to be changed on the command line: what lies there is removed.
override prefix := /opt/holdstill
override local := /usr/local
linked := bin/holdstill share/man/man1/holdstill*.1 share/bash-completion/completions/holdstill \
	share/zsh/site-functions/_holdstill share/fish/vendor_completions.d/holdstill.fish share/holdstill

# Without a pip of its own: what comes with it slows down every start.
define install-in
	rm -rf build/wheel
	$(bin)/python $(pip) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	python=$$($(system_python)) && $(2) "$$python" -m venv --clear --without-pip $(1)
	$(2) $(bin)/python $(pip) --python $(1)/bin/python install --require-hashes -r requirements/run.txt
	$(2) $(bin)/python $(pip) --python $(1)/bin/python install --no-deps build/wheel/*.whl
	cd $(1)/lib/python*/site-packages && libraries=$$PWD && cd - >/dev/null && \
		tools/launcher "$(abspath $(1))/bin/python" "$$libraries" | $(2) tee $(1)/bin/holdstill >/dev/null
endef

.PHONY: install
# With the system's Python: one from somebody's home directory would not be there for the timer.
install: setup $(venv)/.run ## for everyday use: into /opt/holdstill, linked from /usr/local
	$(call install-in,$(prefix),$(as_root))
	@for file in $(linked); do \
		for path in $(prefix)/$$file; do \
			[ -e "$$path" ] || continue; \
			$(as_root) mkdir -p "$(local)/$$(dirname "$$file")"; \
			$(as_root) ln -sfn "$$path" "$(local)/$$(dirname "$$file")/$$(basename "$$path")"; \
		done; \
	done
	@$(local)/bin/holdstill --version

.PHONY: uninstall
uninstall: ## undo it; /etc/holdstill, /var/cache/holdstill and all backups stay
	@for file in $(linked); do \
		for path in $(local)/$$file; do \
			case $$(readlink "$$path") in $(prefix)/*) $(as_root) rm "$$path" ;; esac; \
		done; \
	done
	$(as_root) rm -rf $(prefix)

.PHONY: dist
dist: $(venv)/.dev ## wheel and source distribution, into dist
	$(bin)/python -m build --no-isolation --outdir dist

.PHONY: deb
deb: setup-deb dist ## Debian package for this machine's Debian and Python, into dist
	tools/deb dist

.PHONY: venv
venv: $(venv)/.dev ## .venv with holdstill (editable) and every development tool

.PHONY: requirements
requirements: $(venv)/.dev ## renew the pinned versions in requirements/
	$(pin) pyproject.toml --group dev --output-file requirements/dev.txt
	$(pin) pyproject.toml --constraint requirements/dev.txt --output-file requirements/run.txt
	$(pin) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

.PHONY: clean
clean: ## remove everything that was made here
	$(as_root) rm -rf $(venv) .cache build dist .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	$(as_root) find $(checked) -name __pycache__ -prune -exec rm -rf {} +

.PHONY: setup setup-deb setup-test
setup:
	@tools/setup
setup-deb:
	@tools/setup --deb
# What is installed is tried with the system's Python, whatever the developer's is.
setup-test:
	@tools/setup --test
	@$(system_python) >/dev/null
	@tools/restic-versions >/dev/null
	@tools/guest-kernels >/dev/null
	@tools/promtool >/dev/null

# Removed and made anew when half made: a venv whose creation failed has no pip.
$(bin)/pip:
	rm -rf $(venv)
	python=$$(tools/setup --python) && "$$python" -m venv $(venv)

$(venv)/.run: $(bin)/pip pyproject.toml requirements/run.txt requirements/build.txt
	$(bin)/python $(pip) install --require-hashes -r requirements/run.txt -r requirements/build.txt
	$(bin)/python $(pip) install --no-deps --no-build-isolation --editable .
	@touch $@

$(venv)/.dev: $(venv)/.run requirements/dev.txt
	$(bin)/python $(pip) install --require-hashes -r requirements/dev.txt
	@touch $@

# --no-config and no index address: the files name packages and hashes, not where they come from.
pin = $(bin)/uv pip compile --no-config --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --annotation-style line
