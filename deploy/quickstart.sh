#!/usr/bin/env bash
# Builds Holdfast and shows a real backup and restore: server, repository, two snapshots of DIR, a restore elsewhere, and
# an independent comparison byte for byte and metadata for metadata. Installs what it needs (Debian 12).
#
#   deploy/quickstart.sh [DIR]     DIR: what to back up; default: a few hundred MB of this machine's files
#
# Everything that it makes is in one folder, which it names at the end; nothing else of the machine is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
if [[ $# -gt 1 ]]; then
  echo "quickstart.sh: one folder at most; see --help" >&2
  exit 64
fi
source_dir=${1:-}
if [[ -z $source_dir ]]; then
  for candidate in /usr/share /usr/lib /etc; do
    if [[ -d $candidate ]]; then
      source_dir=$candidate
      break
    fi
  done
fi
if [[ ! -d $source_dir ]]; then
  echo "quickstart.sh: $source_dir is not a folder" >&2
  exit 64
fi
source_dir=$(cd "$source_dir" && pwd -P)

step() { printf '\n== %s\n' "$*"; }

step "Building (the first time takes some minutes)"
deploy/build.sh

# Short: socket names have 107 bytes at most.
place=$(mktemp -d "${TMPDIR:-/tmp}/holdfast.XXXXXX")
mkdir -m 0700 "$place/run"
export XDG_RUNTIME_DIR=$place/run XDG_DATA_HOME=$place/data XDG_CONFIG_HOME=$place/config XDG_CACHE_HOME=$place/cache
unset HOLDFAST_SERVER
export HOLDFAST_PASSWORD=quickstart
PATH=$PWD/bin:$PATH

step "Starting the server"
holdfastd 2>"$place/holdfastd.log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null' EXIT
for _ in $(seq 200); do
  if holdfast repository list >/dev/null 2>&1; then break; fi
  if ! kill -0 "$server" 2>/dev/null; then
    cat "$place/holdfastd.log" >&2
    exit 2
  fi
  sleep 0.1
done
holdfast repository list >/dev/null

step "Creating a repository and letting this machine back up to it"
holdfast repository create
holdfast repository unlock

step "First snapshot of $source_dir"
holdfast snapshot create "$source_dir"

step "Second snapshot: what has not changed is neither read nor sent"
holdfast snapshot create "$source_dir"
holdfast snapshot list

step "Restoring the newest to $place/restored"
holdfast restore latest --target "$place/restored"

step "Comparing with an independent program"
owner=()
[[ $(id -u) == 0 ]] || owner=(--ignore-owner)
python3 tests/tools/compare_trees.py "${owner[@]}" "$source_dir" "$place/restored"

step "Done"
cat <<EOF
Source       $source_dir
Restored     $place/restored
Repository   $place/data/holdfast/repositories/default ($(du -sh "$place/data/holdfast" | cut -f1))
Server log   $place/holdfastd.log
Programs     $PWD/bin

The server is stopped now. To look around, start it again:
  export XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR XDG_DATA_HOME=$XDG_DATA_HOME XDG_CONFIG_HOME=$XDG_CONFIG_HOME XDG_CACHE_HOME=$XDG_CACHE_HOME
  $PWD/bin/holdfastd &
Remove everything with: rm -rf $place
EOF
