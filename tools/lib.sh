# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every tool shares: where things live, how progress is told, how a
# command is run inside the toolchain root. Sourced, never run.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/kvm-riscv-rs
# shellcheck disable=SC2034
SUITE=trixie
mkdir -p "$CACHE"

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The Debian mirror this machine's apt already uses, unless MIRROR= says.
mirror() {
	if [ -n "${MIRROR:-}" ]; then
		printf '%s\n' "$MIRROR"
		return
	fi
	# The toolchain root has one, and no index to ask.
	if [ -n "${KVM_RISCV_RS_IN_ROOT:-}" ]; then
		awk '$1 == "deb" { print $2; exit }' /etc/apt/sources.list
		return
	fi
	# Label "Debian" leaves the security archive out.
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
		'Label: Debian' 2>/dev/null | sort -u | head -n 1 | grep . ||
		die "cannot tell the Debian mirror from apt; run with MIRROR=<url of a Debian archive>"
}

# progress SECONDS DONE TOTAL: how far a step is and how long it still takes.
progress() {
	local percent=$((100 * ${2:-0} / $3))
	[ $percent -lt 100 ] || percent=99
	printf '%d%%' $percent
	[ $percent -lt 5 ] || printf ', about %ds more' $(($1 * (100 - percent) / percent))
}

# step [-n TOTAL [-p COMMAND]] WHAT COMMAND...: runs COMMAND with its output in a
# log, one line of progress every few seconds, and the tail of the log if it
# fails. TOTAL is what the -p command prints at the end; without -p it is the
# number of lines of the log.
step() {
	local total='' count='' what log start pid rc=0 now
	[ "$1" != -n ] || { total=$2; shift 2; }
	[ "$1" != -p ] || { count=$2; shift 2; }
	what=$1
	shift
	mkdir -p "$TOP/build/log"
	log=$TOP/build/log/$(tr -cs 'a-zA-Z0-9' - <<<"$what" | sed 's/-$//').log
	start=$SECONDS
	"$@" >"$log" 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		now=$((SECONDS - start))
		[ -t 2 ] || [ $((now % 30)) -eq 29 ] || continue
		if [ -n "$total" ]; then
			now="$(printf '%4ds' $now)  $(progress $now "$(eval "${count:-wc -l <\"\$log\"}" 2>/dev/null || true)" "$total")"
		else
			now="$(printf '%4ds' $now)  $(tail -n 1 "$log" | tr -d '\r' | cut -c1-60)"
		fi
		if [ -t 2 ]; then
			printf '\r  %-44s %s\033[K' "$what" "$now" >&2
		else
			printf '  %-44s %s\n' "$what" "$now" >&2
		fi
	done
	wait "$pid" || rc=$?
	[ -t 2 ] && printf '\r\033[K' >&2
	if [ $rc -ne 0 ]; then
		printf '  %-44s failed after %ds; the end of %s:\n' "$what" $((SECONDS - start)) "$log" >&2
		tail -n 30 "$log" >&2
		exit $rc
	fi
	printf '  %-44s done in %ds\n' "$what" $((SECONDS - start)) >&2
}

# need COMMAND PACKAGE...: a host program, installed by apt when we are root.
need() {
	local cmd=$1
	shift
	command -v "$cmd" >/dev/null && return
	[ "$(id -u)" = 0 ] || die "this host lacks $cmd; run: sudo apt-get install $*"
	step "apt-get install $*" sh -c "(apt-get update; DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $*)"
}

# once DIR COMMAND...: runs COMMAND, which makes DIR, unless it was through
# before; one process at a time, the others wait and find it made.
once() {
	local dir=$1
	shift
	[ -e "$dir/.complete" ] && return
	(
		flock -n 9 || {
			printf '  another run makes %s; this one waits for it\n' "${dir##*/}" >&2
			flock 9
		}
		[ -e "$dir/.complete" ] && exit
		"$@"
		mkdir -p "$dir"
		touch "$dir/.complete"
	) 9>"$CACHE/.lock-$(key - <<<"$dir")"
}

# key FILE|TEXT...: a short name for what something is made from.
key() { cat "$@" | sha256sum | cut -c1-12; }
