#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs commands for the other side of the virtio port named kvmlab. A request
# is one line: NONCE SECONDS BASE64. The answer is what the command prints,
# then a line: NONCE EXIT-CODE. A command that is still there after SECONDS
# makes the kernel say on the console what every CPU and task does, and then
# that this was all.

for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" = kvmlab ] && exec 3<>"/dev/${port##*/}"
done

while read -r nonce seconds command <&3; do
	(
		sleep "$seconds" &
		sleep=$!
		trap 'kill $sleep; exit' TERM
		wait $sleep
		for key in w l t; do echo $key >/proc/sysrq-trigger; done
		echo "kvmlab: that was all" >/dev/kmsg
	) 3>&- &
	watchdog=$!
	echo "$command" | base64 -d >/tmp/command
	sh /tmp/command </dev/null >&3 2>&3 3>&-
	code=$?
	kill $watchdog
	wait $watchdog 2>/dev/null
	printf '\n%s %d\n' "$nonce" $code >&3
done
