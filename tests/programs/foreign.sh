#!/bin/sh
# A shell script: builtins, programs, pipes, a subshell, its own name and arguments.
echo "$0: $# arguments: $* ($FOREIGN)"
for argument; do printf '%s\n' "$argument"; done | sort | tail -n 1
(cd / && pwd -P)
echo "$(printf '%s' 'a b' | wc -c)" words
sh -c 'exit 5'
echo "a child ended with $?"
echo "an error" >&2
exit 7
