#!/usr/bin/env bash
# Trees that are hard to back up come back equal, as root and as an ordinary user; trees that change
# or cannot be read do not stop a backup and are named; a full disk on the server harms nothing.
source "$(dirname "$0")/lib.sh"
instance_new

SOURCE=$WORK/source
SEED=${HOLDFAST_TEST_SEED:-$RANDOM}
IS_ROOT=0
BIG_DIR=5000
[[ $(id -u) == 0 ]] && IS_ROOT=1 BIG_DIR=20000

case_setup() {
  server_start
  expect 0 repository create
  expect 0 repository unlock
}

# --- Equal ----------------------------------------------------------------------------------------

case_adversarial_tree() {
  make_tree "$SOURCE" --seed "$SEED" --profile "${HOLDFAST_TEST_PROFILE:-quick}"
  snapshot "$SOURCE"
  restore "$ID" "$WORK/back"
  expect_equal "$SOURCE" "$WORK/back"
  expect 0 verify "$ID"
}

case_adversarial_tree_again_sends_next_to_nothing() {
  # What changed in the last moment before a scan is read again, and rightly so.
  sleep 1
  snapshot "$SOURCE"
  proxy_start
  snapshot "$SOURCE"
  proxy_stop
  (($(bytes_up) < 1000000)) || fail "$(bytes_up) bytes for an unchanged tree"
  restore "$ID" "$WORK/back"
  expect_equal "$SOURCE" "$WORK/back"
}

case_parts_of_it() {
  local part
  for part in deep/short deep/long names sparse links modes; do
    restore "latest:$part" "$WORK/back"
    expect_equal "$SOURCE/$part" "$WORK/back"
  done
}

case_strange_paths_as_arguments() {
  local name
  for name in $'line\nbreak' $'\xff\xfe' '-rf' 'latest:a' '*' '...' '\n' "$(printf 'a%.0s' {1..255})"; do
    expect 0 cat "latest:names/$name"
    cmp "$WORK/out" "$SOURCE/names/$name"
  done
}

case_metadata_changes_alone_are_found() {
  local tree=$WORK/meta
  make_tree "$tree" --seed "$SEED" --only modes,xattrs,acls,links,sparse,symlinks --skip big_dir
  snapshot "$tree"
  sleep 0.1
  chmod 0711 "$tree/modes/file-0644" 2>/dev/null || chmod 0711 "$tree/modes/file-0755"
  touch -d '1999-01-01 00:00:00.000000001' "$tree/modes/file-0600"
  touch -h -d '1999-01-01 00:00:00.000000002' "$tree/symlinks/plain"
  touch -d '1999-01-01 00:00:00.000000003' "$tree/modes/dir-0755"
  setfattr -n user.plain -v changed "$tree/xattrs/all"
  setfattr -x user.empty "$tree/xattrs/all"
  setfacl -m u:4242:r "$tree/acls/file"
  setfacl -k "$tree/acls/default-only"
  ln "$tree/links/twin-1" "$tree/links/new-name"
  rm "$tree/links/many-001"
  mv "$tree/links/one" "$tree/links/renamed"
  # A hole where zeros were, with the old time stamp.
  touch -r "$tree/sparse/zeros-beside-hole" "$WORK/stamp"
  fallocate -p -o 2097152 -l 524288 "$tree/sparse/zeros-beside-hole"
  touch -r "$WORK/stamp" "$tree/sparse/zeros-beside-hole"
  if [[ $IS_ROOT == 1 ]]; then
    chown 4242:2424 "$tree/modes/file-0700"
    chown -h 4242:2424 "$tree/symlinks/dangling"
  fi
  proxy_start
  snapshot "$tree"
  proxy_stop
  restore "$ID" "$WORK/back"
  expect_equal "$tree" "$WORK/back"
  (($(bytes_up) < 5000000)) || fail "$(bytes_up) bytes for changes of metadata"
}

case_directory_of_many_entries() {
  make_tree "$WORK/many" --seed "$SEED" --only big_dir --big-dir "${HOLDFAST_TEST_BIG_DIR:-$BIG_DIR}"
  snapshot "$WORK/many"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/many" "$WORK/back"
  touch "$WORK/many/big-dir/one more"
  proxy_start
  snapshot "$WORK/many"
  proxy_stop
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/many" "$WORK/back"
  remove "$WORK/many" "$WORK/back"
}

case_large_xattrs() {
  [[ $IS_ROOT == 1 ]] || skip "needs root"
  mkdir "$WORK/tmpfs"
  mount -t tmpfs -o size=64m none "$WORK/tmpfs" || skip "no tmpfs mount"
  touch "$WORK/tmpfs/probe"
  setfattr -n user.probe -v "$(printf 'x%.0s' {1..60000})" "$WORK/tmpfs/probe" 2>/dev/null || skip "tmpfs takes no large xattrs"
  make_tree "$WORK/tmpfs/tree" --seed "$SEED" --only xattrs,acls,capabilities
  snapshot "$WORK/tmpfs/tree"
  restore "$ID" "$WORK/tmpfs/back"
  expect_equal "$WORK/tmpfs/tree" "$WORK/tmpfs/back"
  umount "$WORK/tmpfs"
}

# --- Symlinks that lead outside -------------------------------------------------------------------

case_symlink_that_leads_outside() {
  mkdir -p "$WORK/escape" "$WORK/outside"
  ln -s "$WORK/outside" "$WORK/escape/way"
  ln -s "$WORK/outside/file" "$WORK/escape/name"
  snapshot "$WORK/escape"
  local with_links=$ID
  rm "$WORK/escape/way" "$WORK/escape/name"
  mkdir "$WORK/escape/way"
  echo through >"$WORK/escape/way/file"
  echo through >"$WORK/escape/name"
  snapshot "$WORK/escape"
  restore "$with_links" "$WORK/back"
  hf restore "$ID" --target "$WORK/back"
  [[ -z $(ls -A "$WORK/outside") ]] || fail "a restore wrote outside of its target"
  hf restore "$with_links" --target "$WORK/back"
  [[ -z $(ls -A "$WORK/outside") ]] || fail "a restore wrote outside of its target"
}

# --- Changes while it is read ---------------------------------------------------------------------

# The client is held up inside a large file; then what comes after it changes.
case_files_that_change_between_scan_and_read() {
  local tree=$WORK/moving
  mkdir -p "$tree/z/dir" "$tree/stable" "$WORK/outside2"
  echo outside >"$WORK/outside2/inside"
  head -c 300000000 /dev/zero | openssl enc -aes-128-ctr -pass pass:moving -nosalt 2>/dev/null >"$tree/a_big"
  local name
  for name in vanish shrink grow fifo link; do head -c 400000 /dev/urandom >"$tree/z/$name"; done
  echo inside >"$tree/z/dir/inside"
  head -c 500000 /dev/urandom >"$tree/stable/file"
  cp -a "$tree/z" "$WORK/z-before"
  touch "$WORK/stall"
  proxy_start --stall-file "$WORK/stall" --stall-after 20000000
  timeout -k 5 $((120 * HF_PATIENCE)) "$HOLDFAST_BIN/holdfast" snapshot create --json "$tree" >"$WORK/out.first" 2>"$WORK/err.first" </dev/null &
  local client=$! status=0
  track client $client
  wait_until 60 bytes_up_at_least 20000000 || fail "the client does not get to 20 MB"
  sleep 0.5
  rm "$tree/z/vanish"
  truncate -s 10000 "$tree/z/shrink"
  head -c 900000 /dev/urandom >>"$tree/z/grow"
  rm "$tree/z/fifo" && mkfifo "$tree/z/fifo"
  ln -sf /etc/passwd "$tree/z/link"
  rm -r "$tree/z/dir" && ln -s "$WORK/outside2" "$tree/z/dir"
  truncate -s 150000000 "$tree/a_big"
  rm "$WORK/stall"
  wait $client || status=$?
  proxy_stop
  [[ $status == 0 || $status == 1 ]] || fail "exit $status: $(tail -n 2 "$WORK/err.first")"
  ID=$(json "$WORK/out.first" 'ids(d)[-1]')
  expect '0|1' restore "$ID" --target "$WORK/back"
  cat "$WORK/out" "$WORK/err" "$WORK/err.first" "$WORK/out.first" >"$WORK/messages"
  expect_equal "$tree/stable" "$WORK/back/stable"
  local back=$WORK/back/z
  for name in vanish shrink grow fifo link; do
    # As it was, as it is now, or missing; anything else must have been said.
    if [[ -L $back/$name ]]; then
      [[ $name == link && $(readlink "$back/link") == /etc/passwd ]] || fail "z/$name became a symlink"
    elif [[ -p $back/$name ]]; then
      [[ $name == fifo ]] || fail "z/$name became a FIFO"
    elif [[ -e $back/$name ]]; then
      cmp -s "$back/$name" "$WORK/z-before/$name" || { [[ -f $tree/z/$name ]] && cmp -s "$back/$name" "$tree/z/$name"; } ||
        grep -a -q "z/$name" "$WORK/messages" || fail "z/$name is neither the old nor the new one, and nothing says so"
    elif [[ $name != vanish ]]; then
      grep -a -q "z/$name" "$WORK/messages" || fail "z/$name is missing, and nothing says so"
    fi
  done
  if [[ -d $back/dir && ! -L $back/dir ]]; then
    ! grep -q outside "$back/dir/inside" 2>/dev/null || fail "a directory swapped for a symlink was followed"
  fi
  if [[ -e $WORK/back/a_big ]]; then
    cmp -s "$WORK/back/a_big" "$tree/a_big" || grep -a -q a_big "$WORK/messages" ||
      fail "a_big is not what it is now, and nothing says so"
  else
    grep -a -q a_big "$WORK/messages" || fail "a_big is missing, and nothing says so"
  fi
  snapshot "$tree"
  restore "$ID" "$WORK/back"
  expect_equal "$tree" "$WORK/back"
  remove "$tree" "$WORK/back"
}

# The walk has seen all names of two files when the first ones go away or become other files.
case_hard_links_whose_first_name_changes() {
  local tree=$WORK/linked client status=0
  mkdir -p "$tree/a" "$tree/b" "$tree/c" "$tree/z"
  head -c 60000000 /dev/urandom >"$tree/0_big"
  printf 'Signature: 8a477f597d28d172789f06886806bc55' >"$tree/z/CACHEDIR.TAG"
  seq 1 1000 >"$tree/a/small"
  head -c 700000 /dev/urandom >"$tree/a/large"
  seq 5 500 >"$tree/a/replaced"
  local name
  for name in small large replaced; do
    ln "$tree/a/$name" "$tree/b/$name"
    ln "$tree/a/$name" "$tree/c/$name"
  done
  touch "$WORK/stall"
  proxy_start --stall-file "$WORK/stall" --stall-after 5000000
  "$HOLDFAST_BIN/holdfast" snapshot create "$tree" >"$WORK/out.first" 2>"$WORK/err.first" </dev/null &
  client=$!
  track client $client
  # Said when the walk gets there, which is behind all links.
  wait_until 60 grep -q 'skipped.*z' "$WORK/err.first" || fail "the walk does not get to the end"
  rm "$tree/a/small" "$tree/a/large"
  seq 7 70 >"$tree/new"
  mv "$tree/new" "$tree/a/replaced"
  rm "$WORK/stall"
  wait $client || status=$?
  proxy_stop
  [[ $status == 0 ]] || fail "exit $status: $(tail -n 2 "$WORK/err.first")"
  restore latest "$WORK/back" --source "$tree"
  for name in small large replaced; do
    cmp "$tree/b/$name" "$WORK/back/b/$name" || fail "b/$name is not what it is"
    cmp "$tree/c/$name" "$WORK/back/c/$name" || fail "c/$name is not what it is"
  done
  # Read before or after.
  cmp "$tree/a/replaced" "$WORK/back/a/replaced" || cmp "$tree/b/replaced" "$WORK/back/a/replaced" ||
    fail "a/replaced is neither what it was nor what it is"
  snapshot "$tree"
  restore "$ID" "$WORK/back"
  expect_equal "$tree" "$WORK/back"
  remove "$tree" "$WORK/back"
}

# What is too large for a tree page lies in chunks of its own: a new name of an unchanged file needs them, too.
case_new_name_of_a_file_with_many_holes_and_attributes() {
  local tree=$WORK/holes
  mkdir -p "$tree/a" "$tree/b"
  "$PYTHON" - "$tree/a/file" <<'PYTHON'
import os, sys
with open(sys.argv[1], "wb") as out:
    for i in range(1500):
        out.seek(i * 12288)
        out.write(b"%4096d" % i)
    out.truncate(1500 * 12288 + (3 << 20))
try:
    for i in range(8):
        os.setxattr(sys.argv[1], "user.%d" % i, b"v" * 400)
except OSError:
    pass
PYTHON
  ln "$tree/a/file" "$tree/b/file"
  sleep 2.1 # so that the file is not taken for one that may still change
  snapshot "$tree"
  mv "$tree/b/file" "$tree/b/renamed"
  snapshot "$tree"
  expect 0 verify "$ID"
  restore "$ID" "$WORK/back"
  expect_equal "$tree" "$WORK/back"
  remove "$tree" "$WORK/back"
}

case_few_open_files_allowed() {
  local tree=$WORK/many
  mkdir "$tree"
  head -c 60000000 /dev/urandom >"$tree/0_big"
  local i
  for i in $(seq 400); do head -c 150000 /dev/urandom >"$tree/file-$i"; done
  # All is well, or nothing was committed: never a snapshot without the files that could not be opened.
  local before limit status
  for limit in 100 30; do
    before=$(snapshot_ids | wc -l)
    status=0
    (ulimit -n $limit && exec "$HOLDFAST_BIN/holdfast" snapshot create "$tree") >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
    [[ $status == 0 || ($status == 2 && $limit == 30) ]] || fail "exit $status with $limit open files: $(tail -n 2 "$WORK/err")"
    [[ $status == 0 || $(snapshot_ids | wc -l) == "$before" ]] || fail "a snapshot was committed"
  done
  restore latest "$WORK/back" --source "$tree"
  expect_equal "$tree" "$WORK/back"
  # Equal files of several chunks are written side by side.
  mkdir "$tree/equal"
  for i in $(seq 300); do cat "$tree/0_big" | head -c 9000000 >"$tree/equal/$i"; done
  rm "$tree/0_big"
  snapshot "$tree"
  remove "$WORK/back"
  (ulimit -n 256 && exec "$HOLDFAST_BIN/holdfast" restore "$ID" --target "$WORK/back") >"$WORK/out" 2>"$WORK/err" </dev/null ||
    fail "restore with 256 open files: $(tail -n 2 "$WORK/err")"
  expect_equal "$tree" "$WORK/back"
  remove "$tree" "$WORK/back"
}

case_files_that_change_all_the_time() {
  local tree=$WORK/churn round churn status
  mkdir -p "$tree/stable"
  make_small_tree "$tree/stable"
  cp -a "$tree/stable" "$WORK/stable-copy"
  for round in 1 2 3; do
    "$PYTHON" "$HF_TOOLS/churn.py" "$tree/churn" --seed $((SEED + round)) --seconds 120 &
    churn=$!
    track churn $churn
    sleep 0.3
    for status in 1 2; do
      expect '0|1' snapshot create --json "$tree"
      ID=$(json "$WORK/out" 'ids(d)[-1]')
    done
    kill -TERM $churn
    wait_gone $churn 20
    expect '0|1' restore "$ID:stable" --target "$WORK/back"
    expect_equal "$WORK/stable-copy" "$WORK/back"
    remove "$WORK/back"
    # At once: what changed in the moment of the last scan must be found by the next.
    snapshot "$tree"
    restore "$ID" "$WORK/back"
    expect_equal "$tree" "$WORK/back"
    remove "$WORK/back"
  done
}

# --- Not readable ---------------------------------------------------------------------------------

case_unreadable_is_named_and_the_rest_is_saved() {
  [[ $IS_ROOT == 0 ]] || skip "root reads everything"
  local tree=$WORK/unreadable
  make_small_tree "$tree"
  mkdir "$tree/closed-dir"
  echo hidden >"$tree/closed-dir/file"
  echo hidden >"$tree/closed-file"
  chmod 000 "$tree/closed-dir" "$tree/closed-file"
  expect 1 snapshot create --json "$tree"
  ID=$(json "$WORK/out" 'ids(d)[-1]')
  grep -q closed-dir "$WORK/err" || fail "the unreadable directory is not named"
  grep -q closed-file "$WORK/err" || fail "the unreadable file is not named"
  expect 0 ls --json "$ID"
  [[ $(json "$WORK/out" 'sorted(e["path"] for e in d if e.get("not_read"))') == $'closed-dir\nclosed-file' ]] ||
    fail "not marked in the snapshot: $(json "$WORK/out" '[e["path"] for e in d if e.get("not_read")]')"
  # A restore of it is not complete either, and says so.
  expect 1 restore "$ID" --target "$WORK/back"
  expect_said closed-dir
  expect_said closed-file
  local name
  for name in docs logs; do expect_equal "$tree/$name" "$WORK/back/$name"; done
  cmp "$tree/large.bin" "$WORK/back/large.bin"
  [[ ! -s $WORK/back/closed-file ]] || fail "content out of nowhere"
  # And once it is readable, it is saved.
  chmod 700 "$tree/closed-dir" "$tree/closed-file"
  snapshot "$tree"
  restore "$ID" "$WORK/back"
  expect_equal "$tree" "$WORK/back"
}

# --- A full disk ----------------------------------------------------------------------------------

case_full_disk_on_the_server() {
  [[ $IS_ROOT == 1 ]] || skip "needs root"
  command -v mkfs.ext4 >/dev/null || skip "no mkfs.ext4"
  server_stop
  truncate -s 400M "$WORK/disk"
  mkfs.ext4 -q "$WORK/disk"
  mkdir "$WORK/full"
  mount -o loop "$WORK/disk" "$WORK/full" || skip "no loop mount"
  SERVER_HOME=$WORK/full
  server_start
  use_agent with-another-server
  expect 0 repository create
  expect 0 repository unlock
  make_small_tree "$WORK/little"
  snapshot "$WORK/little"
  local first=$ID pid free
  pid=$(server_pid)
  mkdir "$WORK/much"
  head -c 150000000 /dev/urandom >"$WORK/much/data"
  # Leaves about 60 MB.
  free=$(df --output=avail -B1 "$WORK/full" | tail -n 1)
  fallocate -l $((free - 60000000)) "$WORK/full/ballast"
  expect 2 snapshot create "$WORK/much"
  expect_said 'space\|full\|ENOSPC'
  [[ $(server_pid) == "$pid" ]] && is_running "$pid" || fail "the server did not survive"
  server_answers || fail "the server no longer answers"
  [[ $(snapshot_ids) == "$first" ]] || fail "something half done is listed"
  restore "$first" "$WORK/back"
  expect_equal "$WORK/little" "$WORK/back"
  hf snapshot create "$WORK/much"
  [[ $RC == 2 ]] || fail "a second try on the full disk: exit $RC"
  rm "$WORK/full/ballast"
  is_running "$pid" || fail "the server did not survive the second try"
  snapshot "$WORK/much"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/much" "$WORK/back"
  expect 0 verify
  server_stop
  server_start
  restore "$first" "$WORK/back"
  expect_equal "$WORK/little" "$WORK/back"
  expect 0 verify
  server_stop
  umount "$WORK/full"
}

case_full_disk_at_the_restore() {
  [[ $IS_ROOT == 1 ]] || skip "needs root"
  mkdir "$WORK/small-disk"
  mount -t tmpfs -o size=2m none "$WORK/small-disk" || skip "no tmpfs mount"
  make_small_tree "$WORK/little2"
  snapshot "$WORK/little2"
  expect '1|2' restore "$ID" --target "$WORK/small-disk/back"
  expect_said 'space\|full'
  umount "$WORK/small-disk"
}

echo "tree.sh: seed $SEED"
check setup
check adversarial_tree
check adversarial_tree_again_sends_next_to_nothing
check parts_of_it
check strange_paths_as_arguments
check metadata_changes_alone_are_found
check directory_of_many_entries
check large_xattrs
check symlink_that_leads_outside
check files_that_change_between_scan_and_read
check hard_links_whose_first_name_changes
check new_name_of_a_file_with_many_holes_and_attributes
check few_open_files_allowed
check files_that_change_all_the_time
check unreadable_is_named_and_the_rest_is_saved
check full_disk_at_the_restore
if [[ $IS_ROOT == 1 && -z ${HOLDFAST_TEST_ONLY:-} ]]; then run_as_ordinary_user; fi
check full_disk_on_the_server
finish
