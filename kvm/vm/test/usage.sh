#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# godwit-vm as a person uses it: help, heartbeats, exit codes. usage.sh PROGRAM
set -u
vm=$1
bad=0

expect() { # CODE TEXT ARG...
	code=$1 text=$2
	shift 2
	said=$("$vm" "$@" 2>&1)
	got=$?
	if [ "$got" != "$code" ] || ! printf '%s\n' "$said" | grep -q -- "$text"; then
		printf 'godwit-vm %s: expected %s and "%s", got %s:\n%s\n' \
			"$*" "$code" "$text" "$got" "$said"
		bad=1
	fi
}

expect 0 'usage: godwit-vm' --help
expect 0 'godwit-vm [0-9]' --version
expect 2 'no such option' --bogus
expect 2 'multiple of 2M' --soft --memory 3
expect 2 'needs --agent' --incoming
expect 0 '^tick [1-9]' --soft --memory 16M --run-for 500 --tick 50
expect 0 '^check: [0-9]* pages ok, 0 bad' --soft --memory 16M --run-for 200 --check-on-exit
expect 0 '^final: ticks [1-9][0-9]* torn 0' --soft --memory 16M --nominal 1T --run-for 300
[ -e /dev/kvm ] || expect 3 '/dev/kvm' --kvm --memory 16M --run-for 100
exit "$bad"
