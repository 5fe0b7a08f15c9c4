#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Init of the machine: mounts, then a shell on the console (lab=shell) or the
# agent that runs what the test on the other side of the virtio port sends.

/bin/busybox --install -s /usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
export HOME=/root PATH=/usr/bin
cd /root || exit

if grep -qw lab=shell /proc/cmdline; then
	module=$(sed -n 's/.*\bmodule=\(\w*\).*/\1/p' /proc/cmdline)
	[ "$module" = none ] || insmod "/modules/$module/kvm.ko"
	echo "KVM loaded: $module. The modules are in /modules, the selftests in /selftests;"
	echo "'guest' boots a nested Linux; poweroff -f or Ctrl-A X ends this."
	setsid cttyhack sh
else
	/agent
fi
poweroff -f
