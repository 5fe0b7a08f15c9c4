#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Init of the nested guest: says what it is, then runs the command that the
# kernel command line carries (guest=BASE64), then powers off. It speaks
# through the kernel log: the kernel prints to the console from a thread of its
# own, and lines written past it would land in the middle of others.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

work() {
	echo "uname $(uname -a)"
	echo "cpus $(grep -c ^processor /proc/cpuinfo)"
	grep -m 1 ^isa /proc/cpuinfo | tr -s "\t " " "
	command=$(sed -n 's/.*guest=\([A-Za-z0-9+/=]*\).*/\1/p' /proc/cmdline | base64 -d)
	if [ -n "$command" ]; then
		sh -c "$command" 2>&1
		echo "exit $?"
	fi
	echo "userspace done"
}

work | while IFS= read -r line; do
	echo "guest: $line" >/dev/kmsg
done
poweroff -f
