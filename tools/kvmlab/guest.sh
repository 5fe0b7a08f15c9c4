#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# usage: guest [-c COMMAND] [QEMU OPTIONS]
#
# Boots a nested Linux guest under Debian's own QEMU with KVM, by default with
# 2 CPUs; later QEMU options override. COMMAND runs in the guest's userspace.

append="console=ttyS0 panic=-1 printk.devkmsg=on"
if [ "$1" = -c ]; then
	append="$append guest=$(printf %s "$2" | base64 | tr -d '\n')"
	shift 2
fi
exec qemu-system-riscv64 -M virt -accel kvm -cpu host -smp 2 -m 256M \
	-display none -monitor none -serial stdio -nic none -no-reboot \
	-kernel /guest/Image -initrd /guest/initrd.cpio -append "$append" "$@"
