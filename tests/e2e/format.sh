#!/usr/bin/env bash
# The repository on disk is what docs/format.md says: a reader written from it alone, with the password,
# finds every entry, its metadata and its content.
source "$(dirname "$0")/lib.sh"
instance_new
SEED=${HOLDFAST_TEST_SEED:-$RANDOM}

read_format() { "$PYTHON" "$HF_TOOLS/format_reader.py" "$@" >"$WORK/read" 2>&1 || fail "$(tail -n 3 "$WORK/read" | cut -c 1-400)"; }

case_setup() {
  server_start
  expect 0 repository create
  expect 0 repository unlock
}

case_ordinary_tree() {
  make_small_tree "$WORK/source"
  snapshot "$WORK/source"
  read_format check "$(repository_dir)" "$ID" "$WORK/source"
}

case_changed_tree() {
  echo more >>"$WORK/source/docs/text"
  mv "$WORK/source/logs" "$WORK/source/renamed"
  for i in {1..3000}; do echo "$i" >"$WORK/source/empty/$i"; done
  snapshot "$WORK/source"
  read_format check "$(repository_dir)" "$ID" "$WORK/source"
}

case_file_of_many_chunks() {
  mkdir "$WORK/big"
  # Above 64 chunks: a content list.
  head -c 160000000 /dev/urandom >"$WORK/big/random"
  snapshot "$WORK/big"
  read_format check "$(repository_dir)" "$ID" "$WORK/big"
}

case_difficult_tree() {
  make_tree "$WORK/difficult" --seed "$SEED" --only names,sizes,sparse,links,symlinks,modes,xattrs,times,empty,many_small
  snapshot "$WORK/difficult"
  read_format check "$(repository_dir)" "$ID" "$WORK/difficult"
}

case_recovery_key_opens_it_too() {
  expect 0 repository recovery-key
  local key
  key=$(grep -a -o -E '([0-9A-HJKMNP-TV-Z]{4}-){8}[0-9A-HJKMNP-TV-Z]{4}' "$WORK/out" | head -n 1 | tr -d -)
  local id
  id=$(snapshot_ids | tail -n 1)
  HOLDFAST_PASSWORD=$key read_format list "$(repository_dir)" "$id"
}

echo "format.sh: seed $SEED"
check setup
check ordinary_tree
check changed_tree
check file_of_many_chunks
check difficult_tree
check recovery_key_opens_it_too
finish
