#!/usr/bin/env bash
# Clang as Bazel 4.2.3 needs it for layering_check. Clang names the module maps of indirect
# dependencies among the files it has read; Bazel takes them for undeclared headers and stops. They
# are generated from the BUILD files, which Bazel watches itself, so they are left out here.
clang-16 "$@" || exit

while [[ $# -gt 0 ]]; do
  if [[ $1 == -MF && -f ${2-} ]]; then
    sed -i 's#[^ ]*\.cppmap##g' "$2"
    break
  fi
  shift
done
