# A thin front over tools/setup and meson; everything it does can be done by hand with these two.
# make help tells the targets.

# Debian's python3 first: python3-zmq and python3-msgpack are installed for that one.
export PATH := /usr/sbin:/usr/bin:/sbin:/bin:$(PATH)
BUILD ?= build
TIMES ?= 20

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

help:
	@echo 'make                     install what is missing (tools/setup), build'
	@echo 'make demo [KEEP=1]       three nodes, a redis that outlives its node; KEEP=1 leaves them up'
	@echo 'make check               all tests; the last line counts them'
	@echo 'make bench [ONLY=NAME]   measurements beside the peers; goal lines last'
	@echo 'make soak [TIMES=20]     long forms of searches and tests, all with sanitizers, the demo so many times'
	@echo 'make format              clang-format on every C file'
	@echo 'make clean               what was built; prefix/ (CRIU, crun) stays'

setup:
	@tools/setup

$(BUILD)/build.ninja: | setup
	@meson setup $(BUILD)

demo: all
	@tools/demo $(if $(KEEP),--keep) $(BUILD)

check: all
	@tools/check $(BUILD)

bench: all
	@bench/run $(BUILD) $(ONLY)

soak: all
	@tools/soak $(BUILD) $(TIMES)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf $(BUILD)

.PHONY: all help setup demo check bench soak format clean
