#!/usr/bin/env bash
# The index is disposable: RocksDB deleted or damaged in any way, the server starts by itself and gives
# the same answers, restores the same trees and still knows what it holds.
source "$(dirname "$0")/lib.sh"
instance_new
SEED=${HOLDFAST_TEST_SEED:-$RANDOM}
RANDOM=$SEED

# Everything a client can ask without changing anything.
answers() {
  local id
  expect 0 snapshot list --json
  cp "$WORK/out" "$1"
  for id in $(json "$WORK/out.ids" 'ids(d)'); do
    expect 0 ls --json "$id"
    cat "$WORK/out" >>"$1"
  done
}

case_setup() {
  server_start
  expect 0 repository create
  expect 0 repository unlock
  make_small_tree "$WORK/source"
  local i
  for i in 1 2 3; do
    head -c 4000000 /dev/urandom >"$WORK/source/version-$i"
    snapshot "$WORK/source"
  done
  expect 0 snapshot list --json
  cp "$WORK/out" "$WORK/out.ids"
  expect 0 snapshot delete "$(json "$WORK/out" 'ids(d)[0]')"
  expect 0 snapshot list --json
  cp "$WORK/out" "$WORK/out.ids"
  echo "$ID" >"$WORK/last"
  answers "$WORK/answers"
  # Names of the index, so that the cases below are about something.
  server_stop
  [[ -n $(rocksdb_dirs) ]] || fail "no RocksDB (a directory with CURRENT) in the server's data"
  server_start
}

# rebuilt HOW: with the server stopped, damages every RocksDB; then everything must be as before.
case_rebuilt() {
  local directory file
  server_stop
  while IFS= read -r directory; do
    case $1 in
      deleted) rm -rf "$directory" ;;
      emptied) find "$directory" -mindepth 1 -delete ;;
      without_current) rm "$directory/CURRENT" ;;
      current_of_noise) head -c 16 /dev/urandom >"$directory/CURRENT" ;;
      manifest_of_noise) for file in "$directory"/MANIFEST-*; do head -c 300 /dev/urandom >"$file"; done ;;
      manifest_truncated) for file in "$directory"/MANIFEST-*; do truncate -s 50 "$file"; done ;;
      without_tables) rm -f "$directory"/*.sst ;;
      tables_flipped)
        for file in "$directory"/*.sst "$directory"/*.log; do
          [[ -s $file ]] || continue
          printf 'XXXXXXXX' | dd of="$file" bs=1 seek=$((RANDOM % $(stat -c %s "$file"))) conv=notrunc status=none
        done
        ;;
      tables_of_noise)
        for file in "$directory"/*.sst "$directory"/*.log; do
          [[ -s $file ]] || continue
          head -c "$(stat -c %s "$file")" /dev/urandom >"$file"
        done
        ;;
      without_log) rm -f "$directory"/*.log ;;
      older)
        rm -rf "$directory"
        cp -a "$WORK/older$directory" "$directory"
        ;;
    esac
  done < <(rocksdb_dirs)
  server_start
  answers "$WORK/answers.now"
  cmp "$WORK/answers" "$WORK/answers.now" >&3 || fail "other answers than before: $(diff "$WORK/answers" "$WORK/answers.now" | head -n 3)"
  restore "$(<"$WORK/last")" "$WORK/back"
  expect_equal "$WORK/source" "$WORK/back"
  expect 0 verify
}

# It must know again what it holds. (Changes the list; the last case.)
case_still_deduplicates() {
  proxy_start
  cp -a "$WORK/source" "$WORK/copy"
  snapshot "$WORK/copy"
  proxy_stop
  (($(bytes_up) < 1500000)) || fail "$(bytes_up) bytes for data that is stored already"
}

# An index from before the last snapshots, as an image of the machine would bring it back.
case_keep_an_older_index() {
  server_stop
  local directory
  while IFS= read -r directory; do
    mkdir -p "$WORK/older$(dirname "$directory")"
    cp -a "$directory" "$WORK/older$directory"
  done < <(rocksdb_dirs)
  server_start
  head -c 5000000 /dev/urandom >"$WORK/source/after"
  snapshot "$WORK/source"
  echo "$ID" >"$WORK/last"
  expect 0 snapshot list --json
  cp "$WORK/out" "$WORK/out.ids"
  answers "$WORK/answers"
}

check setup
for how in deleted emptied without_current current_of_noise manifest_of_noise manifest_truncated without_tables tables_flipped \
  tables_of_noise without_log; do
  check rebuilt $how
done
check keep_an_older_index
check rebuilt older
check rebuilt deleted
check still_deduplicates
finish
