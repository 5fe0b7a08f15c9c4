# SPDX-License-Identifier: GPL-2.0
#
# The front door; Kbuild has the module's own rules.

ARCH := riscv
LLVM ?= 1
MODULE ?= ours
T ?=
TIME ?=

# DEBUG=1 is for the debug kernel of tools/kernel, RT=1 for its PREEMPT_RT kernel.
DEBUG ?=
RT ?=

# VARIANT=NAME is for a kernel of tools/variants that is not built, only prepared for modules: all
# symbols are taken to be there.
VARIANT ?=
flavour := $(if $(VARIANT),-$(VARIANT),$(if $(DEBUG),-debug,$(if $(RT),-rt)))

# PLAIN=1 links the C helpers as an object, instead of inlining them as bitcode.
PLAIN ?=

# Objects go to build/, beside no source.
OUT := $(CURDIR)/build/kbuild$(flavour)$(if $(PLAIN),-plain)
export MIRROR KSRC LINUX DEB_SUITE LINUX_TARBALL LINUX_SHA256

ifneq ($(KDIR),)
# The user's kernel and the user's tools.
override KDIR := $(abspath $(KDIR))
export KDIR
RUN :=
else
# Our kernel, inside our toolchain root.
RUN := tools/toolchain --run
endif

# Evaluated in recipes only: the first use may build a kernel.
kdir = $(or $(KDIR),$(shell tools/kernel $(if $(VARIANT),--variant=$(VARIANT) --prepared,$(flavour:-%=--%) --path)))
ksrc = $(shell tools/kernel --source)
# One at a time: two runs in one output directory destroy each other's objects.
kbuild = mkdir -p build && flock build/.lock $(RUN) $(MAKE) -C $(kdir) M=$(CURDIR) ARCH=$(ARCH) LLVM=$(LLVM) \
	$(if $(VARIANT),KBUILD_MODPOST_WARN=1)
rust-files = find rust selftests/host -name target -prune -o -name '*.rs' -print
rustfmt = $(rust-files) | $(RUN) xargs rustfmt --edition 2021 --config-path $(ksrc)/.rustfmt.toml

.PHONY: module modules_install clean help rust-analyzer fmt fmt-check clippy htmldocs rustdoc run shell test test-full \
	test-matrix fuzz bench

module:
	@tools/check-kdir $(kdir)
	+@$(kbuild) MO=$(OUT) modules
	@$(if $(flavour)$(PLAIN),,cp $(OUT)/kvm.ko kvm.ko)

modules_install: module
	+$(kbuild) MO=$(OUT) INSTALL_MOD_DIR=updates modules_install

clean:
	rm -rf build/kbuild* build/clippy build/host build/loom build/selftests build/log build/htmldocs build/rustdoc kvm.ko rust-project.json

rust-analyzer: module
	+$(kbuild) MO=$(OUT) rust-analyzer
	tools/rust-project $(OUT)

fmt:
	$(rustfmt)

fmt-check:
	@$(rustfmt) --check

clippy:
	@tools/check-kdir $(kdir)
	+@$(kbuild) MO=$(CURDIR)/build/clippy CLIPPY=1 KRUSTFLAGS=-Dwarnings modules

htmldocs:
	@tools/toolchain --run sphinx-build -q -W -n -b html Documentation build/htmldocs

rustdoc: module
	@tools/rustdoc $(OUT)

run:
	@tools/toolchain
	@tools/run --module $(MODULE)

shell:
	@tools/toolchain
	@tools/vm --module $(MODULE)

test:
	@tools/test $(if $(T),-k '$(T)')

test-full:
	@tools/test --full $(if $(T),-k '$(T)')

test-matrix:
	@tools/test --full -k builds_for_variant

fuzz:
	@tools/toolchain
	@tools/fuzz $(if $(TIME),--time $(TIME))

bench:
	@tools/toolchain
	@tools/bench

help:
	@echo 'make [KDIR=DIR] [LLVM=1]  build kvm.ko for the built kernel in DIR; without KDIR'
	@echo '                          for a Linux that is fetched and built (first time 10 min)'
	@echo 'make modules_install      install it under updates/ (INSTALL_MOD_PATH= as usual)'
	@echo 'make run [MODULE=c]       boot a machine under QEMU, in it a Linux guest on kvm.ko'
	@echo 'make shell                a shell in that machine'
	@echo 'make test [T=NAME]        all tests, or those whose name contains NAME'
	@echo 'make test-full            the same with the long variants'
	@echo 'make test-matrix          the module for each configuration of tools/variants'
	@echo 'make fuzz [TIME=SECONDS]  fuzzers on the debug kernel, until something is found'
	@echo 'make bench                instructions per operation, on the C module and on ours'
	@echo 'make htmldocs rustdoc     Documentation/ and the docs of the code, in build/'
	@echo 'make fmt fmt-check clippy rust-analyzer clean'
	@echo
	@echo 'KSRC= names a kernel source tree to build from, LINUX_TARBALL= with LINUX_SHA256='
	@echo 'a tarball of it, MIRROR= a Debian archive. DEBUG=1 and RT=1 are for the kernels of'
	@echo 'tools/kernel --debug and --rt.'
	@echo 'Each program in tools/ has --help.'
