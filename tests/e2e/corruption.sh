#!/usr/bin/env bash
# Every kind of blob is damaged in every way, one at a time, with and without the server's RocksDB. A
# restore is then bit-exact, or it fails and names what is wrong; what is not hit restores right.
# Nothing wrong is ever restored silently. HOLDFAST_TEST_DAMAGES per kind (default 6; "all").
source "$(dirname "$0")/lib.sh"
instance_new --split
use_agent one

SEED=${HOLDFAST_TEST_SEED:-$RANDOM}
DAMAGES=${HOLDFAST_TEST_DAMAGES:-6}
PRISTINE=$WORK/pristine

pristine_again() {
  remove "$SERVER_HOME"
  cp -a "$PRISTINE" "$SERVER_HOME"
}

# check_snapshot NAME MUST_WORK: restores it after the damage; the verdict is a line in $WORK/verdicts.
# Sets HURT if it could not be restored as it was.
check_snapshot() {
  local name=$1 must_work=$2 id
  id=$(<"$WORK/id.$name")
  remove "$WORK/back"
  hf restore "$id" --target "$WORK/back"
  cat "$WORK/out" "$WORK/err" >"$WORK/messages"
  local flags=()
  [[ $(id -u) == 0 ]] || flags=(--ignore-owner)
  mkdir -p "$WORK/back"
  if "$PYTHON" "$HF_TOOLS/compare_trees.py" "$WORK/tree.$name" "$WORK/back" "${flags[@]}" --max 2000 --json "$WORK/differences" \
    >"$WORK/compare"; then
    [[ $RC == 0 || $must_work == no ]] || echo "$name restored right, but exit $RC: $(tail -n 1 "$WORK/messages")" >>"$WORK/verdicts"
    [[ $RC == 0 ]] || HURT=yes
    return 0
  fi
  HURT=yes
  if [[ $RC == 0 ]]; then
    echo "$name is SILENTLY WRONG: $(head -n 1 "$WORK/compare")" >>"$WORK/verdicts"
    return 0
  fi
  if [[ $must_work == yes ]]; then
    echo "$name is not restored (exit $RC): $(tail -n 1 "$WORK/messages")" >>"$WORK/verdicts"
    return 0
  fi
  [[ -s $WORK/messages ]] || echo "$name: exit $RC without a word" >>"$WORK/verdicts"
  # A file with wrong content, or a missing one, is named. Where directories could not be read, whole
  # ranges are missing, and their names with them.
  local unnamed
  unnamed=$("$PYTHON" - "$WORK/differences" "$WORK/messages" "$KIND" <<'PYTHON'
import json, sys
messages = open(sys.argv[2], errors="replace").read()
wrong = ("content", "size") + (("missing",) if sys.argv[3] == "data-pack" else ())
paths = [d["path"] for d in json.load(open(sys.argv[1]))["listed"] if d["what"].startswith(wrong)]
print("".join([p for p in paths if p not in messages][:1]))
PYTHON
  )
  if [[ -n $unnamed ]] && ! grep -a -q -i -E 'no (such )?snapshot|cannot (be )?open|not found' "$WORK/messages"; then
    echo "$name: $unnamed is wrong or missing and not named (exit $RC)" >>"$WORK/verdicts"
  fi
}

# one_damage BLOB DAMAGE ROCKSDB
one_damage() {
  local blob=$1 damage=$2 rocksdb=$3 must_work=yes status=0 name
  HURT=no
  : >"$WORK/verdicts"
  "$PYTHON" "$HF_TOOLS/damage.py" apply "$(repository_dir)" "$blob" "$damage" || status=$?
  [[ $status != 3 ]] || return 0
  [[ $status == 0 ]]
  [[ $rocksdb == kept ]] || rocksdb_dirs | while IFS= read -r name; do rm -rf "$name"; done
  case $KIND in
    data-pack | tree-pack | snapshot) must_work=no ;;
  esac
  server_launch
  wait_until 60 server_ready_or_gone || echo "the server does not answer" >>"$WORK/verdicts"
  if ! is_running "$(server_pid)"; then
    echo "the server ended at its start: $(tail -n 1 "$SERVER_LOG")" >>"$WORK/verdicts"
  else
    for name in $NAMES; do
      local needed=$must_work
      # One damaged manifest is one lost snapshot. (Swapped, it is two.)
      if [[ $KIND == snapshot && $damage != swap* && $blob != *"$(<"$WORK/id.$name")" ]]; then needed=yes; fi
      check_snapshot $name $needed
    done
    hf verify
    if [[ $HURT == yes && $RC == 0 ]]; then echo "verify finds nothing" >>"$WORK/verdicts"; fi
    if [[ $must_work == yes && $RC != 0 && $KIND != log ]]; then
      echo "verify: exit $RC: $(tail -n 1 "$WORK/err")" >>"$WORK/verdicts"
    fi
    if [[ $KIND == snapshot ]]; then
      cat "$WORK/out" "$WORK/err" >"$WORK/messages"
      grep -a -q "$(basename "$blob" | cut -c 1-8)" "$WORK/messages" || echo "verify does not name the damaged manifest" >>"$WORK/verdicts"
    fi
    [[ $HURT == no ]] || echo "$blob $damage" >>"$WORK/hurt.$KIND"
    is_running "$(server_pid)" || echo "the server died" >>"$WORK/verdicts"
    server_stop
  fi
  pristine_again
  if [[ -s $WORK/verdicts ]]; then
    sed "s|^|$blob $damage, RocksDB $rocksdb: |" "$WORK/verdicts" | tee -a "$WORK/bad.$KIND"
  fi
}

case_setup() {
  server_start
  expect 0 repository create
  # A second generation of slots.
  expect 0 repository recovery-key
  expect 0 repository unlock
  make_small_tree "$WORK/tree.first"
  mkdir "$WORK/tree.first/names"
  for i in {1..60}; do seq $i $((i * 40)) >"$WORK/tree.first/names/file-$i"; done
  setfattr -n user.x -v "$(head -c 1500 /dev/urandom | base64 -w 0)" "$WORK/tree.first/tiny"
  # All snapshots are of one path, so that they are restored to the same names.
  cp -a "$WORK/tree.first" "$WORK/source"
  snapshot "$WORK/source"
  echo "$ID" >"$WORK/id.first"
  head -c 2000000 /dev/urandom >"$WORK/source/large-2.bin"
  rm "$WORK/source/names/file-7"
  echo changed >"$WORK/source/logs/one.log"
  cp -a "$WORK/source" "$WORK/tree.second"
  snapshot "$WORK/source"
  echo "$ID" >"$WORK/id.second"
  mkdir "$WORK/tree.other"
  head -c 1500000 /dev/urandom >"$WORK/tree.other/unrelated.bin"
  seq 1 4000 >"$WORK/tree.other/unrelated.txt"
  snapshot "$WORK/tree.other"
  echo "$ID" >"$WORK/id.other"
  server_stop
  cp -a "$SERVER_HOME" "$PRISTINE"
  du -sh "$PRISTINE"
  (cd "$(repository_dir)" && find . -type f -size +0 -printf '%P %s\n' | sort)
}

case_damaged() {
  KIND=$1 NAMES="first second other"
  local sample=() count=0 blob damage rocksdb
  [[ $DAMAGES == all ]] || sample=(--sample "$DAMAGES")
  "$PYTHON" "$HF_TOOLS/damage.py" list "$(repository_dir)" "$KIND" --seed "$SEED" "${sample[@]}" >"$WORK/list"
  if [[ ! -s $WORK/list ]]; then
    # Version 1 reserves index segments and need not write any.
    [[ $KIND != index ]] || skip "the server writes no index segments"
    fail "no blob of this kind in $(repository_dir)"
  fi
  # Key slots are what a password opens; an unlocked agent would not read them.
  if [[ $KIND == slots || $KIND == ring ]]; then
    use_agent fresh
    NAMES=second
  fi
  : >"$WORK/hurt.$KIND"
  while read -r blob damage; do
    count=$((count + 1))
    # A sample takes them in turn.
    if [[ $DAMAGES == all || $((count % 2)) == 0 ]]; then one_damage "$blob" "$damage" kept; fi
    if [[ $DAMAGES == all || $((count % 2)) == 1 ]]; then one_damage "$blob" "$damage" deleted; fi
  done <"$WORK/list"
  if [[ -s $WORK/bad.$KIND ]]; then
    fail "$(wc -l <"$WORK/bad.$KIND") findings in $count damages: $(head -n 4 "$WORK/bad.$KIND" | cut -c 1-250)"
  fi
  local hurt
  hurt=$(wc -l <"$WORK/hurt.$KIND")
  echo "$count damages, $hurt of them lost something"
  case $KIND in
    data-pack | tree-pack | snapshot) ((hurt > 0)) || fail "none of $count damages lost anything: nothing was tested" ;;
  esac
}

# What verify has found is sent again by an ordinary backup, also when the server was restarted in between.
case_the_next_backup_heals() {
  use_agent one
  local pack
  pack=$(cd "$(repository_dir)" && find packs/d -type f -size +500k | sort | head -n 1)
  "$PYTHON" - "$(repository_dir)/$pack" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
    for at in range(100000, 500000, 50000):
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))
PYTHON
  server_start
  expect 1 verify
  server_stop
  server_start
  snapshot "$WORK/source"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/source" "$WORK/back"
  # The older snapshots have what is still on the machine.
  expect '0|1' verify
  expect 0 verify "$ID"
  server_stop
  pristine_again
}

case_all_key_slots_damaged() {
  local file
  for file in "$(repository_dir)"/keys/slots-*; do truncate -s 20 "$file"; done
  server_start
  use_agent without-anything
  expect 2 verify
  expect_said 'key\|slot'
  server_answers || fail "the server no longer answers"
  # Whoever watches the server hears of it, too.
  grep -q 'key slots' "$SERVER_LOG" || fail "nothing in the server's log"
  [[ $(curl -s --unix-socket "$(dirname "$(server_socket)")/http.sock" http://localhost/healthz) != *'"ok"'* ]] ||
    fail "/healthz is content"
  server_stop
  pristine_again
}

case_undamaged_still_works() {
  server_start
  KIND=none HURT=no
  : >"$WORK/verdicts"
  local name
  for name in first second other; do check_snapshot $name yes; done
  [[ ! -s $WORK/verdicts ]] || fail "$(head -n 1 "$WORK/verdicts")"
  expect 0 verify
}

echo "corruption.sh: seed $SEED"
check setup
for kind in format slots ring data-pack tree-pack index snapshot log; do check damaged $kind; done
check the_next_backup_heals
check all_key_slots_damaged
check undamaged_still_works
finish
