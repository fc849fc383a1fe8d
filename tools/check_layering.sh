#!/usr/bin/env bash
# Checks the rules of the house that neither compiler nor Bazel's visibility can express: the table "Folders" of
# docs/architecture.md, circles, sizes and READMEs (tools/check_structure.py), and some rules of text below.
# Prints each break; fails if there is one.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

breaks=0
broken() {
  echo "layering: $1"
  sed 's/^/    /' <<<"$2"
  breaks=$((breaks + 1))
}

found=$(grep -rnE '"@[a-z]|"-l[a-z]' --include=BUILD.bazel core storage server client proto tests tools)
[[ -z $found ]] || broken "only third_party names repositories and system libraries" "$found"

# Ported to other languages from their specification: no threads, no system calls.
found=$(grep -rnE '^ *# *include *<(thread|mutex|condition_variable|future|unistd\.h|fcntl\.h|sys/.*|pthread\.h)>' \
  --include='*.h' --include='*.cc' --exclude='*_test.cc' --exclude='*_benchmark.cc' \
  core/format core/tree core/crypto core/compression)
[[ -z $found ]] || broken "core/{format,tree,crypto,compression} have no threads or system calls" "$found"

found=$(grep -rnE '^package\(default_visibility = \["//visibility:public"\]' --include=BUILD.bazel \
  core storage server client proto)
[[ -z $found ]] || broken "packages are private by default" "$found"

# Time is a parameter (core/io); what gRPC takes as a deadline is not.
found=$(grep -rnE 'absl::Now\(\)|_clock::now\(\)' --include='*.h' --include='*.cc' --exclude='*_test.cc' \
  core storage server | grep -vE '^(core/io/posix\.cc|server/grpc/)')
[[ -z $found ]] || broken "engine code takes the time from core/io" "$found"

tools/check_structure.py || breaks=$((breaks + 1))
[[ $breaks == 0 ]]
