# SPDX-License-Identifier: MIT
# The front door; CMake does the work (see CMakePresets.json for the other builds).
#
#   make            build to build/release
#   make test       install what is missing (Debian), build, run every test
#   make demo       the same, then show it: samples/demo.sh
#   make install    [PREFIX=/usr/local] [DESTDIR=]
#   make check      the checks that need no build: format, includes, headers
#   make format     clang-format over the tree
#   make bench      beside libnng, libnanomsg, libzmq and the bare system, in less than 10 minutes; results in
#                   build/release/bench-results (bench-quick: in less than 90 s; bench-doc: and into doc/performance.md)
#   make model      lets Spin verify the models of tests/model, and replays recorded runs on them: less than 5 minutes
#                   (doc/models.md)
#   make aarch64    cross-builds to build/aarch64, runs its tests under qemu-user: about 6 minutes
#   make mutants    plants eighteen bugs, one at a time, and shows which test finds each: about 12 minutes
#   make clean

PREFIX  ?= /usr/local
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
BUILD   := build/release
CTEST   ?= ctest --output-on-failure --no-tests=error

# Ninja where there is one; an existing build keeps what it was made with.
ifndef CMAKE_GENERATOR
ifneq ($(shell command -v ninja 2>/dev/null),)
export CMAKE_GENERATOR := Ninja
endif
endif

BENCH   ?= --pairs 5
TRACES  := sim_trace_test sim_threads_test

.PHONY: aarch64 bench bench-quick bench-doc all deps deps-test test demo install check model mutants format clean

all:
	@command -v cmake >/dev/null || { echo "cmake is missing: run 'make deps' (Debian, as root or with sudo)" >&2; exit 1; }
	cmake --preset release -DCMAKE_INSTALL_PREFIX="$(PREFIX)" -DSP_TESTS=$(if $(TESTS),ON,OFF)
	cmake --build $(BUILD) -j $(JOBS)

deps:
	cmake/install-deps.sh build

deps-test:
	cmake/install-deps.sh build test

test: deps-test
	$(MAKE) all TESTS=1
	cd $(BUILD) && $(CTEST) -LE bench

demo:
	cmake/install-deps.sh build demo
	$(MAKE) all
	PATH="$(CURDIR)/$(BUILD)/bin:$$PATH" samples/demo.sh

install: all
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD)

check:
	tests/check/includes.sh
	tests/check/atomics.sh
	tests/check/format.sh
	tests/check/headers.sh

model:
	cmake/install-deps.sh build test model
	tests/model/run.sh
	cmake --preset dev
	cmake --build build/dev -j $(JOBS) --target $(TRACES)
	for test in $(TRACES:sim_%=%); do build/dev/tests/sim/$$test || exit 1; done

# Not the tests of faults: their many threads and deadlines want a real machine. By hand they run, too.
aarch64:
	cmake/install-deps.sh build test aarch64
	cmake/aarch64-sysroot.sh
	cmake --preset aarch64
	cmake --build build/aarch64 -j $(JOBS)
	cd build/aarch64 && $(CTEST) -LE 'bench|count|fault' -E '^interop_cat_'

mutants:
	cmake/install-deps.sh build test
	tests/sim/mutants/run.sh

format:
	tests/check/format.sh --fix

bench bench-quick bench-doc:
	cmake/install-deps.sh build bench
	$(MAKE) all
	bench/run.py --build $(BUILD) $(if $(filter bench-quick,$@),--set quick --seconds 0.15) \
	    $(if $(filter bench-doc,$@),--doc doc/performance.md) $(BENCH)

clean:
	rm -rf build
