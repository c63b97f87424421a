# fovea's doors, one command each. CMake does the work (CMakePresets.json); this file only calls it.
# `make` alone lists them.
.DEFAULT_GOAL := help
.NOTPARALLEL:

# One compiler at a time for each core, and for each 1.5 GB of free memory.
JOBS ?= $(shell awk -v cores="$$(nproc)" '/^MemAvailable/ { fit = int($$2 / 1500000) } \
	END { n = (fit && fit < cores) ? fit : cores; print (n > 0) ? n : 1 }' /proc/meminfo)
PREFIX ?= /usr/local
# What `make demo` runs: a checkpoint folder.
DEMO_MODEL ?= models/fovea-demo
# Which tests `make test` and `make asan` run: a ctest regular expression; empty runs all.
TESTS ?=
# What else CMake is told: CMAKE_FLAGS=-DFOVEA_WARNINGS_AS_ERRORS=ON is what CI says.
CMAKE_FLAGS ?=
# Which programs `make asan` builds and tests: empty means all.
ASAN_PROGRAMS ?=
# The same for `make tsan`.
TSAN_PROGRAMS ?=
# What `make fuzz` runs, all in turn if empty, and each for how many seconds.
TARGET ?=
SECONDS ?= 60
# Which parts `make full` runs: those that need it, if empty.
PART ?=

export CTEST_PARALLEL_LEVEL ?= $(JOBS)
step := tools/step.sh
ctest_filter := $(if $(TESTS),-R '$(TESTS)')

help: ## this list
	@echo 'fovea runs Qwen2.5-VL on CPUs. Commands:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## install what is missing to build and test (asks for sudo only if not root)
	@tools/install_dependencies.sh

build: deps ## build the program: build/fovea
	@$(step) 'configure' build/log/configure.log cmake --preset release $(CMAKE_FLAGS)
	@$(step) 'build fovea ($(JOBS) jobs)' build/log/build.log cmake --build --preset release -j $(JOBS) --target fovea

announce-demo:
	@tools/demo.sh --announce

demo: announce-demo build ## build, then audit the small trained model that ships in the repository
	@tools/demo.sh build/fovea $(DEMO_MODEL)

test: deps ## build and run all tests
	@$(step) 'configure' build/log/configure.log cmake --preset release $(CMAKE_FLAGS)
	@$(step) 'build all ($(JOBS) jobs)' build/log/build.log cmake --build --preset release -j $(JOBS)
	@$(step) 'tests' build/log/test.log ctest --preset release $(ctest_filter)
	@sed -n '/% tests passed/,$$p' build/log/test.log

asan: deps ## build with AddressSanitizer and UBSan, run all tests, or those of ASAN_PROGRAMS="media_test ..."
	@$(step) 'configure (sanitizers)' build-asan/log/configure.log cmake --preset asan $(CMAKE_FLAGS)
	@$(step) 'build ($(JOBS) jobs)' build-asan/log/build.log \
		cmake --build --preset asan -j $(JOBS) $(if $(ASAN_PROGRAMS),--target $(ASAN_PROGRAMS))
	@$(step) 'tests (sanitizers)' build-asan/log/test.log \
		ctest --preset asan $(ctest_filter) $(if $(ASAN_PROGRAMS),-E _NOT_BUILT -LE 'ranks|install|guide')
	@sed -n '/% tests passed/,$$p' build-asan/log/test.log

tsan: deps ## build with ThreadSanitizer, run all tests, or those of TSAN_PROGRAMS="schedule_test ..."
	@$(step) 'configure (threads)' build-tsan/log/configure.log cmake --preset tsan $(CMAKE_FLAGS)
	@$(step) 'build ($(JOBS) jobs)' build-tsan/log/build.log \
		cmake --build --preset tsan -j $(JOBS) $(if $(TSAN_PROGRAMS),--target $(TSAN_PROGRAMS))
	@$(step) 'tests (threads)' build-tsan/log/test.log \
		ctest --preset tsan $(ctest_filter) $(if $(TSAN_PROGRAMS),-E _NOT_BUILT -LE 'ranks|structure|tools|install|guide')
	@sed -n '/% tests passed/,$$p' build-tsan/log/test.log

fuzz: ## run the fuzz targets, or TARGET=name, for SECONDS=60 each (clang); adds to docs/measurements/fuzzing.md
	@tools/install_dependencies.sh --fuzz
	@$(step) 'configure (fuzz)' build-fuzz/log/configure.log cmake --preset fuzz $(CMAKE_FLAGS)
	@$(step) 'build ($(JOBS) jobs)' build-fuzz/log/build.log \
		cmake --build --preset fuzz -j $(JOBS) --target $(if $(TARGET),fuzz_$(TARGET),fuzzers)
	@tools/fuzz.py run --seconds $(SECONDS) $(if $(TARGET),--target $(TARGET))

full: ## what is too long for each change, or PART=name of it; results in docs/measurements/full.md
	@tools/full.py $(PART)

lint: ## check the layers and the formatting (`tools/check_format.sh --fix` formats)
	@tools/install_dependencies.sh --lint
	@tools/check_layers.sh
	@tools/check_format.sh

install: build ## copy program, library and headers to PREFIX (/usr/local)
	@$(step) 'build the library' build/log/library.log cmake --build --preset release -j $(JOBS) --target fovea_shared completion
	@cmake --install build --prefix '$(PREFIX)'

deb: build ## a Debian package of this release: build/packages/fovea_*.deb
	@$(step) 'build the library' build/log/library.log cmake --build --preset release -j $(JOBS) --target fovea_shared completion
	@$(step) 'package' build/log/package.log cmake -E chdir build cpack
	@ls build/packages/*.deb

clean: ## remove everything that was built
	@rm -rf build build-asan build-fuzz build-full

.PHONY: help deps build announce-demo demo test asan tsan fuzz full lint install deb clean
