# make help lists the targets. Needs python3 >= 3.10, a C compiler and make; everything else goes into VENV.

PYTHON ?= python3
VENV ?= .venv
WEIGHTS ?=
IMAGES ?=

C_SOURCES := $(wildcard csrc/*.c csrc/*/*.c) tools/exhaustive.c tools/near.c tools/refvit_run.c tools/fuzz.c tools/fuzz_mutate.c refvit/data/kit/check.c
C_COMPILERS := $(foreach cc,gcc clang,$(if $(shell command -v $(cc)),$(cc)))
C_FLAGS := -std=c99 -O3 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fno-math-errno -fno-fast-math -ffp-contract=off
BUILD ?= build
LIB_DEFINES ?=
LDFLAGS ?=
LIB_CPU := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)))
LIB_MACHINE := $(if $(filter i%86,$(LIB_CPU)),-msse2 -mfpmath=sse) $(if $(filter s390x,$(LIB_CPU)),-fexcess-precision=fast)
LIB_FLAGS = -std=c99 $(LIB_MACHINE) $(LIB_LEVEL) -fPIC -ffunction-sections -fno-asynchronous-unwind-tables -fno-math-errno \
            -fno-fast-math -ffp-contract=off $(LIB_DEFINES)
LIB_LEVEL = -O3
LIB_SETTINGS = $(CC) $(LIB_FLAGS) $(LIB_SMALL) $(LDFLAGS)
LIB_SOURCES := $(filter-out csrc/training/%,$(wildcard csrc/*.c csrc/*/*.c))
LIB_OBJECTS := $(LIB_SOURCES:csrc/%.c=$(BUILD)/lib/%.o)
HEADERS := $(wildcard csrc/*.h csrc/*/*.h)
LIB_SMALL := entry texts $(basename $(patsubst csrc/%,%,$(wildcard csrc/loader/*.c))) \
            $(addprefix forward/,attention_float forward picture units workspace) \
            products/base3 products/popcount_avx2 rows/rows_avx2 # no faster at -O3
STAMP := $(VENV)/.refvit-stamp
DEMO_ARGS := $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(IMAGES),--images $(IMAGES))

.PHONY: help setup demo test lib compilers coverage code-mutants cross-full oracle mutants exhaustive fuzz faults wheel rules sizes lint-c clean FORCE

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## Make the virtual environment, install the packages, compile the kernels (done again when they change)

$(STAMP): pyproject.toml setup.py $(wildcard csrc/* csrc/*/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "refvit needs Python >= 3.10")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@$(VENV)/bin/python -c 'import refvit._kernels' 2>/dev/null || \
	    echo "refvit: the C kernels were not compiled (CC=$(CC)): everything works, but slowly, in NumPy" >&2
	touch $@

demo: setup ## Run the main job; WEIGHTS=file IMAGES="folder picture ..." classifies real pictures
	$(VENV)/bin/python tools/demo.py $(DEMO_ARGS)

test: setup ## Run the tests
	$(VENV)/bin/python -m pytest -q -rs tests

lib: $(addprefix $(BUILD)/,librefvit.a librefvit.so refvit.h refvit-run) ## Build the C library and refvit-run, without Python; CC=aarch64-linux-gnu-gcc crosses, LDFLAGS=-static

$(LIB_SMALL:%=$(BUILD)/lib/%.o): LIB_LEVEL = -O2

$(BUILD)/lib/flags: FORCE # changes where what would be compiled changes
	@mkdir -p $(@D)
	@echo '$(LIB_SETTINGS)' | cmp -s - $@ || echo '$(LIB_SETTINGS)' > $@

$(BUILD)/lib/%.o: csrc/%.c $(HEADERS) $(BUILD)/lib/flags
	@mkdir -p $(@D)
	$(CC) $(LIB_FLAGS) -c -o $@ $<

$(BUILD)/lib/all.o: $(LIB_OBJECTS) # one object: a program meets refvit_* alone, and what i686 code shares of its compiler's
	$(CC) -r -nostdlib -o $@ $(LIB_OBJECTS)
	$(shell $(CC) -print-prog-name=objcopy) --wildcard --keep-global-symbol='refvit_*' --keep-global-symbol='__x86.*' $@

$(BUILD)/librefvit.a: $(BUILD)/lib/all.o
	rm -f $@
	$(shell $(CC) -print-prog-name=ar) rcs $@ $<

$(BUILD)/librefvit.so: $(BUILD)/lib/all.o
	$(CC) -shared -Wl,-soname,librefvit.so -o $@ $< -lm -pthread

$(BUILD)/refvit.h: csrc/refvit.h
	@mkdir -p $(@D)
	cp $< $@

$(BUILD)/imagenet1k.h: refvit/data/imagenet1k.txt
	@mkdir -p $(@D)
	cut -f2 $< | sed 's/.*/"&",/' > $@

$(BUILD)/refvit-run: tools/refvit_run.c $(addprefix $(BUILD)/,refvit.h imagenet1k.h librefvit.a)
	$(CC) $(LIB_FLAGS) -I$(BUILD) -Wl,--gc-sections $(LDFLAGS) -o $@ $< $(BUILD)/librefvit.a -lm -pthread

compilers: setup ## Hold the kernels of gcc and clang at -O0, -O2, -O3 to the bits of NumPy, look for data races
	REFVIT_COMPILERS=all REFVIT_REQUIRE=gcc,clang $(VENV)/bin/python -m pytest -q -rs tests/test_compilers.py

coverage: setup ## Lines and branches of the C and lines of the Python that the tests reach (pip fetches the package coverage)
	nice $(VENV)/bin/python tools/coverage.py

code-mutants: setup ## Change operators and numbers of quantizers, kernels and loader: the tests must notice (an hour; goes on)
	nice $(VENV)/bin/python tools/code_mutants.py

oracle: setup ## Hold refvit to the oracle in plain Python: the kit's larger models too, and many more drawn cases (minutes)
	REFVIT_ORACLE=all nice $(VENV)/bin/python -m pytest -q -rs tests/test_oracle.py tests/test_oracle_files.py

mutants: setup ## Plant some 380 bugs in the NumPy engine, one by one: the kit must catch them all (minutes)
	nice $(VENV)/bin/python -m tests.kit_mutants

cross-full: setup ## Hold the kernels on other CPUs, emulated, to the same bits; count their instructions (minutes)
	REFVIT_CROSS=all REFVIT_REQUIRE=all $(VENV)/bin/python -m pytest -q -rs tests/test_cross.py tests/test_disassembly.py tests/test_library_cross.py
	$(VENV)/bin/python -m tests.cross_counts

exhaustive: build/exhaustive build/near_avx512 build/near_avx2 ## Hold exp, erf and the bounds of codes on all 2^32 inputs (minutes)
	nice build/near_avx512
	nice build/near_avx2
	nice build/exhaustive --worst build/worst.txt
	nice $(PYTHON) tools/check_exhaustive.py build/exhaustive build/worst.txt

build/exhaustive: tools/exhaustive.c csrc/rows/exact.c $(HEADERS)
	mkdir -p build
	$(CC) $(C_FLAGS) -c -o build/exact.o csrc/rows/exact.c
	$(CC) $(C_FLAGS) -march=native -pthread -o $@ tools/exhaustive.c build/exact.o -lm

build/near_avx2: NEAR_FLAGS = -DNEAR_AVX2
build/near_avx512 build/near_avx2: tools/near.c csrc/rows/rows_avx512.c csrc/rows/rows_avx2.c $(HEADERS)
	mkdir -p build
	$(CC) $(C_FLAGS) $(NEAR_FLAGS) -o $@ tools/near.c -lm

fuzz: setup $(BUILD)/fuzz/fuzz $(BUILD)/fuzz/every ## Hostile files: FILES (10 million) against the C library under sanitizers, SECONDS (600) for Python
	$(VENV)/bin/python -m tools.fuzz_seeds $(BUILD)/fuzz/seeds
	mkdir -p $(BUILD)/fuzz/corpus
	nice $(BUILD)/fuzz/every all 0 $(BUILD)/fuzz/seeds/packed/*
	nice $(BUILD)/fuzz/fuzz -runs=$(FILES) -timeout=10 -rss_limit_mb=2048 -max_len=16384 -reduce_inputs=0 -verbosity=0 \
	    -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/corpus $(BUILD)/fuzz/seeds
	nice $(VENV)/bin/python -m tools.fuzz --seconds $(SECONDS)

FILES ?= 10000000
SECONDS ?= 600
FUZZ_FLAGS := -std=c99 -O2 -g -fno-fast-math -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc
FUZZ_SOURCES := tools/fuzz.c tools/fuzz_mutate.c $(LIB_SOURCES)

$(BUILD)/fuzz/fuzz: FUZZ_KIND = -fsanitize=fuzzer -fno-sanitize-coverage=trace-cmp # led by coverage; to trace numbers takes four times as long
$(BUILD)/fuzz/every: FUZZ_KIND = -DFUZZ_MAIN
$(BUILD)/fuzz/fuzz $(BUILD)/fuzz/every: $(FUZZ_SOURCES) $(HEADERS) tools/fuzz_mutate.h
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) $(FUZZ_KIND) -o $@ $(FUZZ_SOURCES) -lm -pthread

faults: setup ## kill -9 while refvit writes, KILLS (500) times: nothing is lost, nothing temporary stays (minutes)
	OPENBLAS_NUM_THREADS=1 nice $(VENV)/bin/python -m tools.kills --kills $(KILLS)

KILLS ?= 500

wheel: setup ## Build the wheel; try it on every Python here, and an installation without a compiler
	$(VENV)/bin/python tools/check_wheel.py

rules: setup ## Write tests/vectors/RULES.md: from rule to code, test and vector
	$(VENV)/bin/python tools/rules_table.py

sizes: ## Lines of every file and its longest function
	@$(PYTHON) tools/sizes.py

lint-c: $(BUILD)/refvit.h $(BUILD)/imagenet1k.h ## Compile all C with every compiler present (gcc, clang), warnings being errors
	@test -n "$(C_COMPILERS)" || { echo "lint-c needs gcc or clang"; exit 1; }
	@set -e; for cc in $(C_COMPILERS); do for source in $(C_SOURCES); do \
	    echo "$$cc $$source"; $$cc $(C_FLAGS) -I$(BUILD) -Icsrc -c -o /dev/null $$source; done; done

clean: ## Remove the virtual environment, compiled files and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis refvit/_kernels.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
