#!/usr/bin/env bash
# kill -9 of the server, of the client or of both, at random moments and at the named points of the
# server. Whatever was committed restores bit-exact, nothing else is listed, the next run succeeds and
# does not send again what had arrived. HOLDFAST_TEST_KILLS (default 12), HOLDFAST_TEST_SEED.
source "$(dirname "$0")/lib.sh"
instance_new

SOURCE=$WORK/source
VERSIONS=$WORK/versions
KILLS=${HOLDFAST_TEST_KILLS:-12}
SEED=${HOLDFAST_TEST_SEED:-$RANDOM}
RANDOM=$SEED
POINTS="spool-append pack-finish pack-put manifest-put log-put-before log-put-after index-write"
VERSIONS_KEPT=4

# --- What every kill is followed by ---------------------------------------------------------------

# New content in half of the large files and some of the small ones, as new files.
change_source() {
  local i
  mkdir -p "$SOURCE/small"
  for i in 0 1 2 3 4 5; do
    if [[ ! -e $SOURCE/large-$i || $(((i + $1) % 2)) == 0 ]]; then
      head -c 8000000 /dev/urandom >"$SOURCE/new"
      mv "$SOURCE/new" "$SOURCE/large-$i"
    fi
  done
  for i in {0..199}; do
    if [[ ! -e $SOURCE/small/$i || $(((i + $1) % 10)) == 0 ]]; then
      head -c $((i * 97 % 20000)) /dev/urandom >"$SOURCE/small/$i"
    fi
  done
  echo "$1" >"$SOURCE/round"
}

# version_keep ID: remembers what the snapshot must restore to.
version_keep() {
  cp -a "$SOURCE" "$VERSIONS/$1"
  local old
  # The first one stays, to see the oldest to the end.
  while IFS= read -r old; do remove "$VERSIONS/$old"; done \
    < <(ls -tr "$VERSIONS" | tail -n +2 | head -n -$((VERSIONS_KEPT - 1)))
}

expect_version() {
  restore "$1" "$WORK/back"
  expect_equal "$VERSIONS/$1" "$WORK/back"
}

ids_now() { snapshot_ids | sort; }

# after_kill STATUS: the server runs again. Compares with the list in $WORK/ids-before; STATUS is the
# client's. The source is as it was when the interrupted run began.
after_kill() {
  local new
  ids_now >"$WORK/ids-after"
  [[ -z $(comm -23 "$WORK/ids-before" "$WORK/ids-after") ]] || fail "a committed snapshot is no longer listed"
  new=$(comm -13 "$WORK/ids-before" "$WORK/ids-after")
  if [[ -n $new ]]; then
    [[ $(wc -l <<<"$new") == 1 ]] || fail "more than one new snapshot"
    # Committed just before the kill: then it is whole.
    restore "$new" "$WORK/back"
    expect_equal "$SOURCE" "$WORK/back"
  else
    [[ $1 != 0 ]] || fail "the client said that all was well, and the snapshot is not there"
  fi
}

# Starts the client through the proxy; its process id in CLIENT.
client_start() {
  "$HOLDFAST_BIN/holdfast" snapshot create "$SOURCE" >"$WORK/out.client" 2>&1 3>&- </dev/null &
  CLIENT=$!
  track client $CLIENT
}

# The client's status in STATUS. It may go on by itself when the server is back.
client_wait() {
  STATUS=0
  wait_gone "$CLIENT" 120 || fail "the client hangs after the kill"
  wait "$CLIENT" 2>/dev/null || STATUS=$?
  rm -f "$WORK/pids/client"
}

# A run that must succeed; bytes that it sent in SENT.
run_again() {
  local before
  before=$(bytes_up)
  snapshot "$SOURCE"
  SENT=$(($(bytes_up) - before))
  restore "$ID" "$WORK/back"
  expect_equal "$SOURCE" "$WORK/back"
  version_keep "$ID"
  touch "$WORK/caught-up"
}

# After a failed case: so that the next one is judged by itself.
catch_up() {
  [[ -e $WORK/caught-up ]] || wait_until 100 "$HOLDFAST_BIN/holdfast" snapshot create "$SOURCE" >/dev/null 2>&1 </dev/null
  rm -f "$WORK/caught-up"
}

random_version() { ls "$VERSIONS" | shuf -n 1 --random-source=<(yes "$1"); }

# --- Cases ----------------------------------------------------------------------------------------

case_setup() {
  server_start
  expect 0 repository create
  expect 0 repository unlock
  mkdir "$VERSIONS"
  change_source 0
  proxy_start
  local started
  snapshot "$SOURCE"
  version_keep "$ID"
  # How long a run takes that sends half of it.
  change_source 1
  started=$(date +%s%N)
  snapshot "$SOURCE"
  touch "$WORK/caught-up"
  echo $((($(date +%s%N) - started) / 1000000)) >"$WORK/milliseconds"
  version_keep "$ID"
}

# kill_round NUMBER VICTIM MILLISECONDS
case_kill() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local number=$1 victim=$2 delay=$3 sent before new_data=26500000
  catch_up
  change_source "$number"
  ids_now >"$WORK/ids-before"
  before=$(bytes_up)
  client_start
  sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
  [[ $victim == server ]] || kill -KILL $CLIENT 2>/dev/null || true
  if [[ $victim != client ]]; then
    server_kill
    server_start
  fi
  client_wait
  sent=$(($(bytes_up) - before))
  after_kill $STATUS
  expect_version "$(random_version "$number")"
  run_again
  echo "client exit $STATUS, sent $sent then $SENT"
  ((SENT < new_data + 2000000)) || fail "$SENT bytes sent after $sent, of $new_data"
  # What a living server had received need not come again, but for what was on its way.
  if [[ $victim == client ]] && ((sent > new_data * 7 / 10)); then
    ((SENT < new_data * 7 / 10)) || fail "$SENT bytes sent again after $sent, of $new_data"
  fi
}

# The run is stopped with 70 of 100 MB sent, so that what is sent again can be told.
case_resume_after_a_kill_of() {
  proxy_stop
  touch "$WORK/stall"
  proxy_start --stall-file "$WORK/stall" --stall-after 70000000
  head -c 100000000 /dev/urandom >"$SOURCE/resume"
  ids_now >"$WORK/ids-before"
  client_start
  wait_until 120 bytes_up_at_least 70000000 || fail "the client does not get to 70 MB"
  sleep 1
  if [[ $1 == client ]]; then
    kill -KILL $CLIENT
  else
    server_kill
  fi
  rm "$WORK/stall"
  [[ $1 == client ]] || server_start
  client_wait
  after_kill $STATUS
  if [[ $STATUS != 0 ]]; then
    run_again
    ((SENT < 60000000)) || fail "$SENT bytes sent again, of 100 MB of which 70 had arrived"
  else
    # The client waited for the server and went on: all of it must not have gone twice.
    (($(bytes_up) < 150000000)) || fail "$(bytes_up) bytes sent for 100 MB"
  fi
  rm "$SOURCE/resume"
  proxy_stop
  proxy_start
}

# The server kills itself at this point. Some points are passed at its start already: then the next
# passages are tried ("NAME:2" is the second one).
case_named_point() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local point=$1 passage spelled died=no
  for passage in 1 2 3 4; do
    spelled=$point
    ((passage == 1)) || spelled=$point:$passage
    ids_now >"$WORK/ids-before"
    server_stop
    server_launch HOLDFAST_CRASH_POINT="$spelled"
    wait_until 60 server_ready_or_gone || fail "the server neither answers nor ends"
    if ! is_running "$(server_pid)"; then
      echo "$spelled: at the start"
      server_start
      after_kill 1
      continue
    fi
    change_source $((RANDOM % 1000))
    client_start
    wait_until 60 not is_running "$(server_pid)" || true
    if is_running "$(server_pid)"; then
      # Not passed (any more): the run is an ordinary one.
      client_wait
      after_kill $STATUS
      break
    fi
    died=yes
    echo "$spelled: during the snapshot"
    server_start
    client_wait
    after_kill $STATUS
    if [[ $point == log-put-after ]]; then
      [[ -n $(comm -13 "$WORK/ids-before" "$WORK/ids-after") ]] || fail "the log slot was written, and the snapshot is not there"
    fi
    expect_version "$(random_version "$passage")"
    run_again
    break
  done
  [[ $died == yes ]] || fail "never reached during a snapshot: nothing was tested"
  server_stop
  server_start
}

case_kills_while_the_server_starts() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local i
  change_source 77
  ids_now >"$WORK/ids-before"
  client_start
  sleep 0.3
  server_kill
  for i in 1 2 3 4; do
    server_launch
    sleep "0.$((RANDOM % 30 + 10))"
    server_kill
  done
  server_start
  client_wait
  after_kill $STATUS
  run_again
}

case_kill_while_a_repository_is_created() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local i creator delay
  for i in 1 2 3; do
    delay=$((RANDOM % 400))
    "$HOLDFAST_BIN/holdfast" repository create "new$i" >/dev/null 2>&1 3>&- </dev/null &
    creator=$!
    track client $creator
    sleep "$(printf '0.%03d' $delay)"
    server_kill
    server_start
    wait_gone $creator 60 || fail "repository create hangs after a kill of the server"
    hf repository create "new$i"
    [[ $RC == 0 ]] || expect_said exist
    expect 0 snapshot create "$SOURCE/small" --repository "new$i"
    expect 0 verify --repository "new$i"
  done
}

case_kill_while_a_snapshot_is_deleted() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local deleter id
  snapshot "$SOURCE/small"
  id=$ID
  ids_now | grep -v "$id" >"$WORK/ids-before"
  "$HOLDFAST_BIN/holdfast" snapshot delete "$id" >/dev/null 2>&1 3>&- </dev/null &
  deleter=$!
  track client $deleter
  sleep "0.$((RANDOM % 30 + 10))"
  server_kill
  server_start
  wait_gone $deleter 60 || fail "snapshot delete hangs after a kill of the server"
  ids_now >"$WORK/ids-after"
  [[ -z $(comm -23 "$WORK/ids-before" "$WORK/ids-after") ]] || fail "another snapshot is gone"
  if grep -q "$id" "$WORK/ids-after"; then
    restore "$id" "$WORK/back"
    expect_equal "$SOURCE/small" "$WORK/back"
  fi
}

case_everything_committed_is_there() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local id
  for id in $(ls "$VERSIONS"); do expect_version "$id"; done
  expect 0 verify
  server_stop
  server_start
  expect 0 verify
  expect_version "$(ls -tr "$VERSIONS" | head -n 1)"
}

echo "crash.sh: seed $SEED, $KILLS random kills"
check setup
duration=$(cat "$WORK/milliseconds" 2>/dev/null || echo 1000)
for ((number = 2; number < KILLS + 2; number++)); do
  victims=(server client server client both)
  check kill $number "${victims[RANDOM % 5]}" $(((RANDOM << 15 | RANDOM) % (duration * 11 / 10)))
done
check resume_after_a_kill_of client
check resume_after_a_kill_of server
for point in $POINTS; do check named_point "$point"; done
check kills_while_the_server_starts
check kill_while_a_repository_is_created
check kill_while_a_snapshot_is_deleted
check everything_committed_is_there
finish
