# The front door. Every target is a script or a CMake preset that can be used without make.
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help deps build demo test bench lint tidy format layers asan fuzz install dist clean

help: ## this list
	@echo "usage: make TARGET [JOBS=$(JOBS)]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

deps: ## install the Debian packages that are missing
	@tools/install_deps.sh

# Without sanitizers, optimised: build/release/bin/dither.
build/release/build.ninja:
	cmake --preset release
build: deps build/release/build.ninja ## the command and the library, optimised
	cmake --build build/release --parallel $(JOBS) --target dither_cli dither

demo: build ## draw pictures with the demo model into out/
	@tools/demo.sh

# Tests run side by side, with more threads than cores: a thread that waits must not spin.
test asan: export OMP_WAIT_POLICY = passive

test: deps build/release/build.ninja ## build everything and run every test
	cmake --build build/release --parallel $(JOBS)
	ctest --test-dir build/release --parallel $(JOBS) --output-on-failure --progress

bench: build ## the tables of docs/benchmarks/, measured on this machine
	@tools/bench.sh

lint: tidy ## every static check: layers, formatting, headers, scripts, clang-tidy
	@tools/lint.sh

tidy: ## clang-tidy over our sources
	@JOBS=$(JOBS) tools/tidy.sh

format: ## clang-format our sources in place
	@tools/sources.sh | xargs -0 clang-format-19 -i

layers: ## check the includes of every room against tools/layers.txt
	@tools/check_layers.py

# The rooms that parse foreign bytes or touch raw memory; name others with ROOMS="runtime cli".
ROOMS ?= base tensor quant models backends/cpu io tokenizers schedulers media
empty :=
asan: deps ## the tests of ROOMS under the address and undefined-behaviour sanitizers
	cmake --preset dev
	cmake --build --preset dev --parallel $(JOBS) --target $(foreach room,$(ROOMS),dither_$(subst /,_,$(room))_test)
	ctest --preset dev --parallel $(JOBS) --progress --tests-regex '^($(subst $(empty) $(empty),|,$(strip $(ROOMS))))/'

fuzz: ## each fuzz target for FUZZ_SECONDS
	@tools/fuzz.sh $(FUZZ_SECONDS)

install: build ## install under PREFIX
	cmake --install build/release --prefix $(PREFIX)

# With the CUDA backend: make dist CUDA=1; tools/dist.sh has options for smaller ones.
dist: deps ## a tarball of the command for any x86-64 Linux of this age: dist/ (CUDA=1: for GPUs)
	@JOBS=$(JOBS) tools/dist.sh $(if $(CUDA),--cuda)

clean: ## remove build/
	rm -rf build
