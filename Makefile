# voice-room: `make run` to try it, `make test` to check it, `make help` for the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Products are where the README says, whatever the caller's settings are.
export CARGO_TARGET_DIR := $(CURDIR)/target
export PATH := $(PATH):$(HOME)/.cargo/bin

STEP  := scripts/step
WASM  := wasm32-wasip2
CARGO := cargo --locked
WASM_OUT := target/$(WASM)/plugin

# A plugin is a folder of plugins/, and its package has the folder's name: a Cargo package,
# or an npm package.
PLUGINS     := $(patsubst plugins/%/Cargo.toml,%,$(wildcard plugins/*/Cargo.toml))
JS_PLUGINS  := $(patsubst plugins/%/package.json,%,$(wildcard plugins/*/package.json))
TEST_GUESTS := $(patsubst tests/%/Cargo.toml,%,$(wildcard tests/*-plugin/Cargo.toml))

# Tests in Node.js against the real server: each npm package under tests/.
NODE_CHECKS := $(patsubst tests/%/package.json,check-%,$(wildcard tests/*/package.json))

# The page is rebuilt when one of these is newer, and when its result has gone.
WEB_SOURCES := $(if $(wildcard web),$(shell find web -name node_modules -prune -o -path web/dist -prune -o -type f -print))
WEB_GONE    := $(if $(wildcard web/dist/index.html),,FORCE)

# A plugin in JavaScript is rebuilt when its sources, the SDK's or the contract are newer.
JS_SDK         := plugin-sdk/js
JS_SDK_SOURCES := $(shell find $(JS_SDK)/src $(JS_SDK)/bin -type f) plugin-sdk/wit/plugin.wit
js_sources      = $(shell find plugins/$(1) \( -name node_modules -o -name dist -o -name test \) -prune -o -type f -print)
js_gone         = $(if $(wildcard target/plugins/$(1).wasm),,FORCE)

# npm writes this file into node_modules at the end of each installation.
NPM_DONE := node_modules/.package-lock.json

.PHONY: help run build test bench torture fmt setup setup-test FORCE
.PHONY: web plugins test-guests server
.PHONY: check-format check-web check-plugins check-clippy check-docs check-rust check-node $(NODE_CHECKS)

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build and start a server for trying out, on http://localhost:3000
	@echo
	@echo "Open http://localhost:3000 in two tabs, and talk to yourself."
	@echo "Published events and all that is kept: data/. Ctrl-C ends the server."
	@echo
	@exec target/release/voice-room serve --dev --data-dir data

build: ## Build target/release/voice-room, target/plugins/*.wasm and the page, without starting
	@$(MAKE) setup
	@$(MAKE) web plugins
	@$(MAKE) server

# In this order: the quick checks first, and the worker is built once, in one profile.
test: ## Check everything: format, lints, documentation, every test
	@$(MAKE) setup-test
	@$(MAKE) check-format
	@$(MAKE) check-web
	@$(MAKE) plugins test-guests
	@$(MAKE) check-plugins
	@$(MAKE) check-clippy
	@$(MAKE) check-docs
	@$(MAKE) check-rust
	@$(MAKE) check-node
	@echo
	@echo "All tests passed."

bench: setup ## Measure what the README's figures come from
	@$(MAKE) web plugins test-guests
	@$(STEP) "benchmarks" $(CARGO) bench

KILLS   ?= 100
SECONDS_OF_TALK ?= 600
torture: build ## Kill a server 100 times while people talk, and audit what it billed
	@$(MAKE) test-guests
	@$(STEP) "torture: $(KILLS) kills" \
	  $(CARGO) run --release -p voice-room-torture -- --kills $(KILLS) --duration $(SECONDS_OF_TALK)

fmt: ## Format the Rust sources
	@cargo fmt --all

setup: ## Install what building needs and this machine lacks
	@scripts/setup run

setup-test:
	@scripts/setup test

# --- products ---------------------------------------------------------------------------

server:
	@$(STEP) "server, optimised (the first time, its C++ media worker takes minutes)" \
	  $(CARGO) build --release

# copy_guests PACKAGES, FOLDER, SOURCES: each component, and beside it the manifest
# SOURCES/NAME/plugin.toml, if there is one (a test may want none). Leaves alone what has not
# changed, never shows a running server half a file, and places the manifest first, so that
# a component never meets an older one.
define copy_guests
	@mkdir -p $(2)
	@place() { cmp -s "$$1" "$$2" || { cp "$$1" "$$2.new"; mv "$$2.new" "$$2"; echo "    $$2"; }; }; \
	for name in $(1); do \
	  manifest=$(3)/$$name/plugin.toml; \
	  [[ ! -e $$manifest ]] || place "$$manifest" $(2)/$$name.toml; \
	  place $(WASM_OUT)/$${name//-/_}.wasm $(2)/$$name.wasm; \
	done
endef

plugins: $(JS_PLUGINS:%=target/stamps/plugin-%)
	@$(STEP) "plugins" $(CARGO) build --profile plugin --target $(WASM) $(PLUGINS:%=--package=%)
	$(call copy_guests,$(PLUGINS),target/plugins,plugins)

# The first build's file is in the place of the second one's: hence the order.
test-guests:
	@$(STEP) "guest of the tests, as of contract 0.2" \
	  $(CARGO) build --profile plugin --target $(WASM) --package=fixture-plugin \
	  --features=contract-0-2
	@mkdir -p target/plugins-test
	@cp $(WASM_OUT)/fixture_plugin.wasm target/plugins-test/fixture-0.2.wasm
	@$(STEP) "guests of the tests" \
	  $(CARGO) build --profile plugin --target $(WASM) $(TEST_GUESTS:%=--package=%)
	$(call copy_guests,$(TEST_GUESTS),target/plugins-test,tests)

define js_plugin
target/stamps/plugin-$(1): plugins/$(1)/$(NPM_DONE) $(JS_SDK)/$(NPM_DONE) \
  $(JS_SDK_SOURCES) $(call js_sources,$(1)) $(call js_gone,$(1))
endef
$(foreach name,$(JS_PLUGINS),$(eval $(call js_plugin,$(name))))

$(JS_PLUGINS:%=target/stamps/plugin-%): target/stamps/plugin-%:
	@$(STEP) "plugin $*, in JavaScript" npm --prefix plugins/$* run build -- --out "$(CURDIR)/target/plugins"
	@mkdir -p $(@D) && touch $@

web: target/stamps/web

target/stamps/web: web/$(NPM_DONE) $(WEB_SOURCES) $(WEB_GONE)
	@$(STEP) "web page" npm --prefix web run build
	@mkdir -p $(@D) && touch $@

%/$(NPM_DONE): %/package-lock.json %/package.json
	@$(STEP) "npm packages of $*" npm --prefix $* ci --no-audit --no-fund
	@mkdir -p $(@D) && touch $@

# --- checks -----------------------------------------------------------------------------

check-format:
	@$(STEP) "format" cargo fmt --all --check

check-web: web
	@$(STEP) "web page: types" npm --prefix web run check
	@$(STEP) "web page: tests" npm --prefix web test

# Those in JavaScript; the tests of the others are Rust tests.
check-plugins: $(JS_SDK)/$(NPM_DONE) $(JS_PLUGINS:%=plugins/%/$(NPM_DONE))
	@$(STEP) "plugins in JavaScript: the SDK" npm --prefix $(JS_SDK) test
	@for name in $(JS_PLUGINS); do \
	  $(STEP) "plugin $$name: types" npm --prefix plugins/$$name run check; \
	  $(STEP) "plugin $$name: tests" npm --prefix plugins/$$name test; \
	done

check-clippy:
	@$(STEP) "lints (the first time, the C++ media worker takes minutes)" \
	  $(CARGO) clippy --workspace --all-targets -- -D warnings

check-docs:
	@RUSTDOCFLAGS=-Dwarnings $(STEP) "documentation" $(CARGO) doc --no-deps --workspace

check-rust:
	@$(STEP) "Rust tests" $(CARGO) test --workspace

# One after the other: they measure time.
check-node:
	@for check in $(NODE_CHECKS); do $(MAKE) "$$check"; done

# The browsers meet other clients.
check-browser: tests/clients/$(NPM_DONE)

# With the server that the Rust tests have built. A test that hangs fails.
$(NODE_CHECKS): check-%: tests/%/$(NPM_DONE)
	@test -x target/debug/voice-room || { echo "tests/$*: target/debug/voice-room is missing" >&2; exit 1; }
	@$(STEP) "tests/$*" timeout --foreground 30m npm --prefix tests/$* test
