# make deps demo    install what is needed, build, draw demo.png
# make deps test    install what is needed, build, run every test in both precisions
# make              ./llmdiff (float)       make REAL=double    ./llmdiff-f64
# make SAN=1        ./llmdiff-san           make SAN=1 test     the tests under ASan and UBSan
# make MPI=1        ./llmdiff for mpirun    make test-mpi       its tests
# make bench-train  training steps beside PyTorch's: time and memory (bench/RESULTS.md)
# make rounding     redraw ref/rounding*.svg: the float build's errors along the network
# make gallery      draw README's pictures again
# make experiments  train and judge what bench/EXPERIMENTS.md reports, and write it (hours; it goes on where it stopped)
# make golden       rebuild golden/ with PyTorch (see golden/README.md)
# make kit          rebuild golden/kit, by which ports are judged, and judge upstream by it
# make verify-real LLM=DIR SD=DIR     llmdiff beside transformers and diffusers on real checkpoints
# make kit-selftest damage a correct port in every way, and see that it is told so
# make lib          libllmdiff.a and libllmdiff.so alone (ref/llmdiff.h), in build/
# make install PREFIX=/usr/local      make uninstall PREFIX=/usr/local

REAL   ?= float
SAN    ?= 0
MPI    ?= 0
PREFIX ?= /usr/local
CC     ?= cc
OBJCOPY ?= objcopy
JOBS   ?= $(shell nproc)
PYTHON ?= $(firstword $(wildcard /opt/golden-venv/bin/python) python3)

comma   := ,

PACKAGES = gcc libc6-dev make pkg-config libopenblas-dev libcjson-dev libutf8proc-dev libpng-dev \
           libjpeg62-turbo-dev zlib1g-dev nettle-dev libcmocka-dev \
           $(if $(filter 1,$(MPI)),libopenmpi-dev openmpi-bin)

# ---- one build directory per variant ----------------------------------------------------------
VARIANT := $(if $(filter double,$(REAL)),f64,f32)
ifeq ($(SAN),1)
    BUILD   := build/san-$(VARIANT)
    PROGRAM := llmdiff-san$(if $(filter double,$(REAL)),-f64)
else
    BUILD   := build/$(VARIANT)
    PROGRAM := llmdiff$(if $(filter double,$(REAL)),-f64)
endif
# With MPI two objects and the program differ, which have a directory of their own, so that nothing is
# mixed; ./llmdiff is a copy of whichever of the two was made last.
ifeq ($(MPI),1)
    TEAM    := $(BUILD)/mpi
    TEAMCC  := OMPI_CC="$(CC)" MPICH_CC="$(CC)" mpicc
    TEAMSRC := ref/cli_team.c ref/cli_team_mpi.c
else
    TEAM    := $(BUILD)/alone
    TEAMCC  := $(CC)
    TEAMSRC := ref/cli_team.c
endif
VERSION := $(shell sed -n 's/^\#define LLMDIFF_VERSION "\(.*\)"/\1/p' ref/llmdiff.h)
LIBNAME := lib$(PROGRAM)
SONAME  := $(LIBNAME).so.$(firstword $(subst ., ,$(VERSION)))

WARN = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
HARD = -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LINKHARD = -Wl,-z,relro,-z,now,-z,noexecstack
CFLAGS  ?= -O3 -g
override CFLAGS += -std=c11 -D_XOPEN_SOURCE=700 -fopenmp -fPIC -fvisibility=hidden $(WARN) -MMD -MP \
    -I. \
    $(if $(filter double,$(REAL)),-DLLMDIFF_DOUBLE) $(shell pkg-config --cflags openblas 2>/dev/null)
ifeq ($(SAN),1)
    override CFLAGS  += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
                        -fno-sanitize-recover=all
    override LDFLAGS += -fsanitize=address,undefined
else
    override CFLAGS  += $(HARD)
    override LDFLAGS += $(LINKHARD)
endif
override LDFLAGS += -fopenmp
LDLIBS = $(or $(shell pkg-config --libs openblas 2>/dev/null),-lopenblas) -lcjson -lutf8proc -lpng -ljpeg -lz -lnettle -lm

LIB   = $(filter-out ref/cli.c ref/cli_%.c,$(wildcard tensor/*.c tokenizer/*.c weights/*.c ref/*.c ref/train/*.c ref/yardstick/*.c))
CLI   = $(filter-out ref/cli_team%,$(wildcard ref/cli.c ref/cli_*.c))
# What eval judges by, which is no part of the library, with the little it stands on.
WORLD = $(wildcard ref/world/*.c)
CLIUSES = $(WORLD) tensor/error.c weights/file.c weights/json.c
TESTS = $(patsubst tests/%.c,%,$(wildcard tests/test_*.c))
OBJ   = $(LIB:%.c=$(BUILD)/%.o)

all: $(PROGRAM) lib

# The program is the library's first user: it sees ref/llmdiff.h and links the archive.
$(PROGRAM): $(TEAM)/$(PROGRAM) FORCE
	@cmp -s $< $@ || { cp $< $@.new && mv $@.new $@; }
.PHONY: FORCE

$(TEAM)/$(PROGRAM): $(CLI:%.c=$(BUILD)/%.o) $(CLIUSES:%.c=$(BUILD)/%.o) $(TEAMSRC:%.c=$(TEAM)/%.o) $(BUILD)/$(LIBNAME).a
	@echo "  LINK $@"
	@$(TEAMCC) $(LDFLAGS) -pie -o $@ $^ $(LDLIBS)

$(TEAM)/%.o: override CFLAGS += $(if $(filter 1,$(MPI)),-DLLMDIFF_MPI)
$(TEAM)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC   $@"
	@$(TEAMCC) $(CFLAGS) -c -o $@ $<

# ---- the library: what is not marked LLMDIFF_API is invisible in both kinds ---------------------
lib: $(BUILD)/$(LIBNAME).a $(BUILD)/$(SONAME)

# One object, so that the hidden names can be made local and clash with nobody's.
$(BUILD)/$(LIBNAME).a: $(OBJ)
	@echo "  AR   $@"
	@$(LD) -r -o $(BUILD)/$(LIBNAME).o $^
	@$(OBJCOPY) --localize-hidden $(BUILD)/$(LIBNAME).o
	@rm -f $@ && $(AR) rcs $@ $(BUILD)/$(LIBNAME).o

$(BUILD)/$(SONAME): $(OBJ)
	@echo "  LINK $@"
	@$(CC) -shared -Wl,-soname,$(SONAME) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC   $@"
	@$(CC) $(CFLAGS) -c -o $@ $<

# ---- tests: tests/test_*.c, each with the library, both precisions ------------------------------
$(BUILD)/tests/%.o: override CFLAGS += -DLLMDIFF_PROGRAM='"./$(PROGRAM)"' \
    -DLLMDIFF_MPI_DIR='"./$(BUILD)/mpi"' \
    -DLLMDIFF_MPI_PROGRAM='"./$(BUILD)/mpi/$(PROGRAM)"'
$(BUILD)/test_%: $(BUILD)/tests/test_%.o $(BUILD)/tests/check.o $(OBJ) $(WORLD:%.c=$(BUILD)/%.o)
	@echo "  LINK $@"
	@$(CC) $(LDFLAGS) -pie -o $@ $^ $(LDLIBS) -lcmocka
# Allocations that fail (tests/faults.h); under ASan malloc is the sanitizer's, and the linker puts
# ours in between.
FAULTY = $(BUILD)/test_faults $(BUILD)/test_tape_faults $(BUILD)/test_train_faults \
         $(BUILD)/test_checkpoint_faults $(BUILD)/test_train_run_faults
$(FAULTY): $(BUILD)/tests/faults.o
ifeq ($(SAN),1)
$(FAULTY): private override LDFLAGS += $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc \
    aligned_alloc free strdup png_create_write_struct png_create_read_struct)
endif
# System calls that fail, or that the process doesn't survive.
$(BUILD)/test_checkpoint_faults $(BUILD)/test_train_deaths: private override LDFLAGS += \
    $(addprefix -Wl$(comma)--wrap=,open mkdir fsync rename unlink rmdir remove fflush)
.SECONDARY:

# With MPI=1 test_mpi is told so, and a program that it starts under mpirun is there.
ifeq ($(MPI),1)
export LLMDIFF_MPI := 1
SUM := $(TEAM)/mpi_sum
$(SUM): $(BUILD)/tests/mpi_sum.o $(TEAMSRC:%.c=$(TEAM)/%.o) $(BUILD)/$(LIBNAME).a
	@echo "  LINK $@"
	@$(TEAMCC) $(LDFLAGS) -pie -o $@ $^ $(LDLIBS)
endif

test-programs: all $(TESTS:%=$(BUILD)/%) $(SUM)
mpi-programs: all $(filter $(BUILD)/test_mpi%,$(TESTS:%=$(BUILD)/%)) $(SUM)

# Of both precisions, or of the one that PRECISIONS=float leaves.
PRECISIONS ?= float double
TESTED = $(patsubst double,$(BUILD:%$(VARIANT)=%f64),$(PRECISIONS:float=$(BUILD:%$(VARIANT)=%f32)))

test-mpi:
	@$(MAKE) --no-print-directory -j$(JOBS) MPI=1 REAL=float mpi-programs
	@$(MAKE) --no-print-directory -j$(JOBS) MPI=1 REAL=double mpi-programs
	@ONLY='test_mpi*' LLMDIFF_MPI=1 tests/run.sh build/f32 build/f64

test:
	@set -e; for real in $(PRECISIONS); do \
	    $(MAKE) --no-print-directory -j$(JOBS) REAL=$$real test-programs; done
	@tests/run.sh $(TESTED)

# Worst errors of every station, both precisions, beside torch float32's.
report:
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=float test-programs >/dev/null
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=double test-programs >/dev/null
	@tests/report.sh $(BUILD:%$(VARIANT)=%f32) $(BUILD:%$(VARIANT)=%f64)

# Faults put into our C, one at a time: does a test turn red? (tests/mutants/README.md)
mutants:
	tests/mutants/run

# ---- what a newcomer runs ------------------------------------------------------------------------
deps:
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	    sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	    $$sudo apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	fi

demo:
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=float SAN=0 all
	./llmdiff generate -m weights/tiny -p "a small red circle to the left of a large blue square" -o demo.png

gallery:
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=float SAN=0 llmdiff
	python3 bench/gallery.py

# Trainings and judgements beside each other: make experiments ARGS="--only claim --dry-run"
experiments:
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=float SAN=0 llmdiff build/f32/bench_cost
	$(PYTHON) bench/experiments.py $(ARGS)
# With programs that only pretend: is nothing done twice, and every figure in its place?
test-experiments:
	python3 bench/test_experiments.py

# The float build against the double one: from the prompt, and each stage from the double run's values.
ROUNDING = generate -m golden/micro -p "a red circle" --noise golden/kit/inputs/picture.safetensors \
           --sampling-method ddim --steps 3 -W 8 -H 12

rounding: both
	@dir=$$(mktemp -d) && trap 'rm -r "$$dir"' EXIT && \
	./llmdiff-f64 $(ROUNDING) -o $$dir/a.png --trace $$dir/double.safetensors && \
	./llmdiff $(ROUNDING) -o $$dir/b.png --trace $$dir/free.safetensors && \
	./llmdiff $(ROUNDING) -o $$dir/c.png --trace $$dir/forced.safetensors \
	    --force $$dir/double.safetensors && \
	./llmdiff compare $$dir/double.safetensors $$dir/free.safetensors --rtol 1e-5 \
	    --svg ref/rounding.svg >/dev/null && \
	./llmdiff compare $$dir/double.safetensors $$dir/forced.safetensors --rtol 1e-5 \
	    --svg ref/rounding_forced.svg >/dev/null

# Training steps beside PyTorch's: make bench-train ARGS="--full DIR", a full-size pack's directory.
$(BUILD)/bench_%: $(BUILD)/bench/bench_%.o $(OBJ)
	@echo "  LINK $@"
	@$(CC) $(LDFLAGS) -pie -o $@ $^ $(LDLIBS)

bench-train:
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=float SAN=0 build/f32/bench_train
	$(PYTHON) bench/run_train.py $(ARGS)

golden:
	golden/make.sh goldens
# The table of every damage to a correct port's outputs, and what verify and compare say of it.
kit-selftest:
	@$(MAKE) --no-print-directory -j$(JOBS) all $(BUILD)/test_kit_selftest $(BUILD)/test_kit_train
	@LLMDIFF_TABLE=1 $(BUILD)/test_kit_selftest
	@LLMDIFF_TABLE=1 $(BUILD)/test_kit_train

kit: both
	golden/make.sh kit
# Beside upstream on real checkpoints: make verify-real LLM=phi-1_5 SD=stable-diffusion-v1-5
verify-real: both
	$(PYTHON) golden/verify_real.py --llm "$(LLM)" --sd "$(SD)" $(ARGS)
both:
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=float SAN=0 llmdiff
	@$(MAKE) --no-print-directory -j$(JOBS) REAL=double SAN=0 llmdiff-f64

# ---- installing --------------------------------------------------------------------------------
# The double build installs beside the other: make REAL=double install. Man pages and completion are
# printed by the program from its table of options.
INTO       = $(DESTDIR)$(PREFIX)
COMMANDS   = generate train eval encode tokenize info init-adapter compare verify
COMPLETION = $(INTO)/share/bash-completion/completions
PKGCONFIG  = $(INTO)/lib/pkgconfig

install: all
	install -d $(INTO)/bin $(INTO)/include $(PKGCONFIG) $(INTO)/share/man/man1 $(COMPLETION)
	install -m 755 $(PROGRAM) $(INTO)/bin
	install -m 644 ref/llmdiff.h $(INTO)/include
	install -m 644 $(BUILD)/$(LIBNAME).a $(INTO)/lib
	install -m 755 $(BUILD)/$(SONAME) $(INTO)/lib/$(LIBNAME).so.$(VERSION)
	ln -sf $(LIBNAME).so.$(VERSION) $(INTO)/lib/$(SONAME)
	ln -sf $(SONAME) $(INTO)/lib/$(LIBNAME).so
	@printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' 'libdir=$${prefix}/lib' '' \
	    'Name: $(PROGRAM)' 'Description: A decoder-only LLM controls Stable Diffusion, on the CPU' \
	    'Version: $(VERSION)' 'Requires.private: openblas libcjson libutf8proc libpng libjpeg zlib nettle' \
	    'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -l$(PROGRAM)' \
	    'Libs.private: -lgomp -lpthread -lm' >$(PKGCONFIG)/$(PROGRAM).pc
	./$(PROGRAM) help --man >$(INTO)/share/man/man1/llmdiff.1
	@for c in $(COMMANDS); do \
	    echo "./$(PROGRAM) help --man $$c >$(INTO)/share/man/man1/llmdiff-$$c.1"; \
	    ./$(PROGRAM) help --man $$c >$(INTO)/share/man/man1/llmdiff-$$c.1 || exit 1; \
	done
	./$(PROGRAM) help --completion >$(COMPLETION)/llmdiff

# Both precisions.
uninstall:
	rm -f $(foreach p,llmdiff llmdiff-f64,$(INTO)/bin/$(p) $(PKGCONFIG)/$(p).pc \
	    $(addprefix $(INTO)/lib/lib$(p).,a so so.$(firstword $(subst ., ,$(VERSION))) so.$(VERSION))) \
	    $(INTO)/include/llmdiff.h $(INTO)/share/man/man1/llmdiff.1 \
	    $(COMMANDS:%=$(INTO)/share/man/man1/llmdiff-%.1) $(COMPLETION)/llmdiff

format:
	clang-format -i $$(git ls-files '*.c' '*.h')
format-check:
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build llmdiff llmdiff-f64 llmdiff-san llmdiff-san-f64

.PHONY: all report mutants bench-train gallery experiments test-experiments test test-mpi test-programs mpi-programs deps demo rounding golden kit kit-selftest verify-real both lib \
        install uninstall format format-check clean

-include $(wildcard $(BUILD)/*/*.d $(BUILD)/*/*/*.d)
