#!/usr/bin/env bash
# Builds both programs, optimised, into bin/. Installs what the build needs first.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install-deps.sh
bazel build //server/daemon:holdfastd //client/cli:holdfast

# bazel-bin is the folder of the last build, which is this one. Moved into place, not copied: a
# program that is running keeps its old file.
mkdir -p bin
for program in server/daemon/holdfastd client/cli/holdfast; do
  name=$(basename "$program")
  install -m 0755 "bazel-bin/$program" "bin/.$name.new"
  mv "bin/.$name.new" "bin/$name"
done
ls -l bin
