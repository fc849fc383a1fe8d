#!/usr/bin/env bash
# Checks the dependency rules of docs/architecture.md that Bazel's visibility cannot express.
# Prints each break with the path that causes it; fails if there is one.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

messages=$(mktemp)
trap 'rm -f "$messages"' EXIT

breaks=0
broken() {
  echo "layering: $1"
  sed 's/^/    /' <<<"$2"
  breaks=$((breaks + 1))
}

# --- Text: what the compiler and Bazel let through ------------------------------------------------

readonly CODE=(core storage server client proto tests tools)
existing=()
for folder in "${CODE[@]}"; do
  [[ -d $folder ]] && existing+=("$folder")
done

found=$(grep -rnE '"@[a-z]|"-l[a-z]' --include=BUILD.bazel --include=BUILD "${existing[@]}")
[[ -z $found ]] || broken "only third_party names repositories and system libraries" "$found"

# only_in <header pattern> <path pattern> <rule>: includes of a library outside its packages. The
# headers of system libraries are in /usr/include, where no dependency is needed to find them.
only_in() {
  local found
  found=$(grep -rnE "^ *# *include *[<\"]($1)" --include='*.h' --include='*.cc' "${existing[@]}" |
    grep -vE "^($2)")
  [[ -z $found ]] || broken "$3" "$found"
}

only_in 'rocksdb/' 'server/index/' 'RocksDB stays behind the KvStore of server/index'
only_in 'zstd' 'core/compression/' 'zstd stays in core/compression'
only_in 'blake3\.h|argon2\.h' 'core/crypto/|tests/toolchain/' 'hashes and key derivation stay in core/crypto'
only_in 'openssl/' 'core/crypto/|server/http/|server/daemon/|tests/' 'cryptography stays in core/crypto'
only_in 'httplib\.h' 'server/http/|server/rest/|tests/' 'HTTP stays in server/http and server/rest'
only_in 'grpc/|grpc\+\+/|grpcpp/' 'server/grpc/|server/daemon/|client/rpc/|client/cli/|proto/holdfast/v1/|tests/' \
  'gRPC stays in server/grpc, server/daemon, client/rpc, client/cli and the wire in proto'
only_in 'CLI/' 'client/cli/|server/daemon/|tests/|tools/' 'CLI11 stays in the programs'

# Ported to other languages from their specification: no threads, no system calls.
found=$(grep -rnE '^ *# *include *<(thread|mutex|condition_variable|future|unistd\.h|fcntl\.h|sys/.*|pthread\.h)>' \
  --include='*.h' --include='*.cc' --exclude='*_test.cc' --exclude='*_benchmark.cc' \
  core/format core/tree core/crypto core/compression 2>/dev/null)
[[ -z $found ]] || broken "core/{format,tree,crypto,compression} have no threads or system calls" "$found"

# --- Dependency graph -----------------------------------------------------------------------------

# all_in <folder>: the query for its targets, or one without result if it has none yet.
all_in() {
  if [[ -d $1 && -n $(find "$1" -name BUILD.bazel -print -quit) ]]; then
    echo "//$1/..."
  else
    echo "set()"
  fi
}
# Tests and test doubles may reach further: they are in no program.
code_in() { echo "attr(testonly, 0, $(all_in "$1"))"; }

# no_path <from> <to> <rule>
no_path() {
  local path
  if ! path=$(bazel query --noshow_progress --nohost_deps --noimplicit_deps "somepath($1, $2)" \
    2>"$messages"); then
    broken "the query for this rule failed: $3" "$(cat "$messages")"
  elif [[ -n $path ]]; then
    broken "$3" "$path"
  fi
}

core=$(code_in core)
storage=$(code_in storage)
server=$(code_in server)
client=$(code_in client)
grpc=//third_party/grpc/...

no_path "$core" "$(all_in storage) + $(all_in server) + $(all_in client)" \
  "core knows nothing about storage, server or client"
no_path "$core + $storage" "$grpc" "core and storage work without gRPC"
no_path "$storage" "$(all_in server) + $(all_in client)" "storage does not know who calls it"
no_path "$server" "$(all_in client)" "the server does not contain client code"
no_path "$client" "$(all_in server)" "the client does not contain server code"
no_path "$client - $(all_in client/recover) - $(all_in client/cli)" "$(all_in storage)" \
  "only client/recover reaches storage without a server"

if [[ $breaks != 0 ]]; then
  echo "layering: $breaks rules are broken"
  exit 1
fi
echo "layering: all rules hold"
