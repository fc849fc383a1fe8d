#!/usr/bin/env bash
# The server and its storage learn no name and no byte: canaries in names, contents, xattrs and link
# targets, the password and the agent's keys are sought in the server's memory, storage, index, log
# and on the wire. A second agent deduplicates against the first one and can read nothing of it.
# The source's own path is known to the server (docs/threat-model.md) and holds no canary.
source "$(dirname "$0")/lib.sh"
instance_new --split
use_agent one

SOURCE=$WORK/source
WIRE=$WORK/wire
canary() { echo "Canary$1$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')"; }

scan() { "$PYTHON" "$HF_TOOLS/scan_secrets.py" --text-file "$WORK/canaries" "$@"; }

# Everything the server has or had. Arguments: further flags of scan_secrets.py.
expect_nothing_found() {
  # A server that only stopped looking like running has no memory to search.
  is_running "$(server_pid)"
  scan --pid "$(server_pid)" --in "$SERVER_HOME" --in "$XDG_RUNTIME_DIR" --in "$SERVER_LOG" --in "$WIRE" "$@" \
    --report-scanned >"$WORK/findings" 2>"$WORK/scanned" || fail "$(head -n 4 "$WORK/findings")"
}

make_canary_tree() {
  local word
  mkdir -p "$SOURCE/plain"
  {
    for word in Directory File Inline Small Text Random Xattr Attribute Target Exclude Hidden; do canary $word; done
    echo "$HOLDFAST_PASSWORD"
  } >"$WORK/canaries"
  local directory file inline small text random xattr attribute target exclude hidden
  { read -r directory && read -r file && read -r inline && read -r small && read -r text && read -r random &&
    read -r xattr && read -r attribute && read -r target && read -r exclude && read -r hidden; } <"$WORK/canaries"
  mkdir "$SOURCE/$directory"
  echo x >"$SOURCE/$directory/$file"
  printf '%s' "$inline" >"$SOURCE/inline"
  seq 1 500 >"$SOURCE/small"
  echo "$small" >>"$SOURCE/small"
  for _ in {1..20000}; do echo "a line of text with $text in it"; done >"$SOURCE/text"
  # Incompressible, so that it is stored as it is; the canary every 64 KiB.
  for _ in {1..120}; do
    head -c 65536 /dev/urandom
    printf '%s' "$random"
  done >"$SOURCE/random"
  echo y >"$SOURCE/attributes"
  setfattr -n user.plain -v "$xattr" "$SOURCE/attributes"
  setfattr -n "user.$attribute" -v value "$SOURCE/attributes"
  ln -s "/$target/somewhere" "$SOURCE/link"
  echo z >"$SOURCE/plain/$exclude.o"
  printf '%s\n' "$hidden" '*.ignored' >"$SOURCE/.holdfastignore"
  echo "$directory" >"$WORK/directory-canary"
  echo "$file" >"$WORK/file-canary"
  echo "$exclude" >"$WORK/exclude-canary"
}

case_the_scanner_finds_what_is_there() {
  make_canary_tree
  scan --in "$SOURCE" >"$WORK/findings" && fail "no canary found in the source itself"
  local word
  while read -r word; do
    [[ $word == "$HOLDFAST_PASSWORD" ]] || grep -q "'$word' found" "$WORK/findings" || fail "$word is not found in the source"
  done <"$WORK/canaries"
  # In another process's memory, in hexadecimal.
  local pid
  word=$(head -n 1 "$WORK/canaries")
  "$PYTHON" -c "import sys, time; s = sys.stdin.buffer.read().strip().hex(); print('ready', flush=True); time.sleep(60)" \
    >"$WORK/ready" <<<"$word" &
  pid=$!
  track sleeper $pid
  wait_until 20 test -s "$WORK/ready"
  scan --pid $pid >"$WORK/findings" && fail "no canary found in a process that has it"
  grep -q "'$word' as hexadecimal found" "$WORK/findings" || fail "not found as hexadecimal"
  kill $pid
  # And a key in a file of unknown layout.
  head -c 200 /dev/urandom >"$WORK/key-file"
  { head -c 1001 /dev/urandom && tail -c +51 "$WORK/key-file" | head -c 32; } >"$WORK/leak"
  "$PYTHON" "$HF_TOOLS/scan_secrets.py" --keys-from "$WORK/key-file" --in "$WORK/leak" >/dev/null && fail "a leaked key was not found"
  head -c 100000 /dev/urandom >"$WORK/leak"
  "$PYTHON" "$HF_TOOLS/scan_secrets.py" --keys-from "$WORK/key-file" --in "$WORK/leak" >&3 || fail "a key found in noise"
}

case_setup() {
  server_start
  proxy_start --record "$WIRE"
  expect 0 repository create
  expect 0 repository recovery-key
  grep -a -o -E '([0-9A-HJKMNP-TV-Z]{4}-){8}[0-9A-HJKMNP-TV-Z]{4}' "$WORK/out" | head -n 1 >>"$WORK/canaries"
  tr -d - < <(tail -n 1 "$WORK/canaries") >>"$WORK/canaries"
  expect 0 repository unlock
}

# Every command that sends or fetches something, through the recording proxy.
case_every_command() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  local directory file first second
  directory=$(<"$WORK/directory-canary")
  file=$(<"$WORK/file-canary")
  snapshot "$SOURCE" --exclude "$(<"$WORK/exclude-canary").o"
  first=$ID
  printf 'more\n' >>"$SOURCE/$directory/$file"
  mv "$SOURCE/small" "$SOURCE/$directory/"
  snapshot "$SOURCE"
  second=$ID
  restore "$second" "$WORK/back"
  expect_equal "$SOURCE" "$WORK/back"
  restore "$second:$directory" "$WORK/back"
  restore "$second" "$WORK/back" --include "$file"
  expect 0 ls "$second:$directory"
  expect_said "$file"
  expect 0 cat "$second:$directory/$file"
  expect 2 cat "$second:$directory/no-$file"
  expect 0 diff "$first" "$second"
  expect_said "$file"
  expect 0 snapshot show "$second"
  expect 0 verify "$second"
  expect 2 restore "$second:no/$directory" --target "$WORK/none"
  HOLDFAST_PASSWORD="wrong $(tail -n 1 "$WORK/canaries")" hf verify
  expect 0 snapshot delete "$first"
}

case_new_password() {
  export HOLDFAST_SERVER=unix:$WORK/p.sock
  canary Newpassword >>"$WORK/canaries"
  HOLDFAST_NEW_PASSWORD=$(tail -n 1 "$WORK/canaries") expect 0 repository password
}

case_no_canary_at_the_server() {
  expect_nothing_found
  (($(stat -c %s "$WIRE") > 8000000)) || fail "the recording has $(stat -c %s "$WIRE") bytes only"
}

case_no_canary_while_data_is_on_its_way() {
  proxy_stop
  touch "$WORK/stall"
  proxy_start --record "$WIRE" --stall-file "$WORK/stall" --stall-after 6000000
  mkdir "$SOURCE/again"
  local random
  random=$(sed -n 6p "$WORK/canaries")
  for _ in {1..400}; do
    head -c 65536 /dev/urandom
    printf '%s' "$random"
  done >"$SOURCE/again/random"
  "$HOLDFAST_BIN/holdfast" snapshot create "$SOURCE" >"$WORK/out.first" 2>&1 </dev/null &
  local client=$! status=0
  track client $client
  wait_until 60 bytes_up_at_least 6000000 || fail "the client does not get to 6 MB"
  sleep 0.3
  expect_nothing_found
  rm "$WORK/stall"
  wait $client || status=$?
  [[ $status == 0 ]] || fail "exit $status: $(tail -n 1 "$WORK/out.first")"
  expect_nothing_found
}

case_no_key_of_the_agent_at_the_server() {
  local file flags=()
  while IFS= read -r file; do flags+=(--keys-from "$file"); done \
    < <(find "$XDG_CONFIG_HOME" "$XDG_DATA_HOME" "$XDG_STATE_HOME" -type f -perm 600)
  ((${#flags[@]} > 0)) || fail "unlock left no 0600 file"
  # The repository's id and the settings are the server's to know, so are the snapshots' ids.
  find "$SERVER_HOME" -type d -name format | sed 's/^/--public /' >"$WORK/public"
  expect 0 snapshot list --json
  cp "$WORK/out" "$WORK/ids"
  # shellcheck disable=SC2046
  expect_nothing_found "${flags[@]}" --public "$WORK/ids" $(cat "$WORK/public")
  ! grep -q ' 0 keys' "$WORK/scanned" || fail "no keys in the agent's files"
}

# Master secret, dedup secret, reader keys, content keys and all that is derived from them, found with the
# password by a reader that knows only docs/format.md.
case_no_key_of_the_owner_at_the_server() {
  local status=0
  HOLDFAST_PASSWORD=$(tail -n 1 "$WORK/canaries") "$PYTHON" "$HF_TOOLS/format_reader.py" keys "$(repository_dir)" \
    >"$WORK/keys" 2>"$WORK/err" || status=$?
  [[ $status == 0 ]] || fail "the documented format does not lead to the keys: $(tail -n 1 "$WORK/err")"
  local label
  for label in master-secret key-encryption-key dedup-secret owner-reader-key reader-key-1 content-key-of; do
    grep -q "^$label" "$WORK/keys" || fail "no $label found"
  done
  expect_nothing_found --hex-file "$WORK/keys"
  # These keys are the right ones: the agent's file, which may have some of them, does.
  local file
  file=$(find "$XDG_CONFIG_HOME" -type f -name '*credentials*' | head -n 1)
  "$PYTHON" "$HF_TOOLS/scan_secrets.py" --hex-file "$WORK/keys" --in "$file" >"$WORK/findings" &&
    fail "the agent's file has none of the keys: they may be the wrong ones"
  grep -q '^dedup-secret' "$WORK/findings" || fail "the agent's file has not the dedup secret"
  ! grep -q -E '^(master-secret|key-encryption-key|owner-reader-key|admin-key|keyring-key|slot-mac-key) ' "$WORK/findings" ||
    fail "the agent's file holds what only the owner may: $(grep -E '^(master|key-enc|owner|admin|keyring|slot)' "$WORK/findings" | head -n 1)"
}

case_nothing_after_a_restart_either() {
  unset HOLDFAST_SERVER
  proxy_stop
  server_stop
  server_start
  expect_nothing_found
}

# --- The second agent -----------------------------------------------------------------------------

case_second_agent_reads_nothing() {
  local first directory file arguments
  HOLDFAST_PASSWORD=$(tail -n 1 "$WORK/canaries")
  snapshot "$SOURCE"
  first=$ID
  directory=$(<"$WORK/directory-canary")
  file=$(<"$WORK/file-canary")
  use_agent two
  expect 0 repository unlock
  unset HOLDFAST_PASSWORD
  # It sees the same data under another path, and deduplicates.
  cp -a "$SOURCE" "$WORK/copy"
  proxy_start
  snapshot "$WORK/copy"
  proxy_stop
  (($(bytes_up) < 3000000)) || fail "$(bytes_up) bytes for data that the other agent had sent"
  local own=$ID
  restore "$own" "$WORK/back"
  expect_equal "$WORK/copy" "$WORK/back"
  # It opens nothing of the first one's.
  remove "$WORK/none"
  while IFS= read -r arguments; do
    # shellcheck disable=SC2086
    hf $arguments
    [[ $RC == 2 ]] || fail "holdfast ${arguments%% *} of another agent's snapshot: exit $RC"
    ! grep -a -q -E 'Canary(Inline|Small|Text|Random|Xattr|Target|File)' "$WORK/out" "$WORK/err" ||
      [[ $arguments == *Canary* ]] || fail "${arguments%% *} shows something of another agent's snapshot"
  done <<LINES
restore $first --target $WORK/none
restore $first:$directory --target $WORK/none
ls $first
ls $first:$directory
cat $first:inline
cat $first:$directory/$file
diff $first $own
verify $first
LINES
  [[ ! -e $WORK/none || -z $(find "$WORK/none" -type f) ]] || fail "a restore of another agent's snapshot wrote files"
  # And the other way round.
  use_agent one
  hf ls "$own"
  [[ $RC == 2 ]] || fail "the first agent lists the second one's snapshot: exit $RC"
}

case_owner_reads_every_agent() {
  local id
  use_agent owner
  HOLDFAST_PASSWORD=$(sed -n '/^CanaryNewpassword/p' "$WORK/canaries")
  for id in $(snapshot_ids); do
    remove "$WORK/back"
    expect 0 restore "$id" --target "$WORK/back"
    [[ -e $WORK/back/inline ]] || fail "a snapshot is not restored to its owner"
  done
}

check the_scanner_finds_what_is_there
check setup
check every_command
check new_password
check no_canary_at_the_server
check no_canary_while_data_is_on_its_way
check no_key_of_the_agent_at_the_server
check no_key_of_the_owner_at_the_server
check nothing_after_a_restart_either
check second_agent_reads_nothing
check owner_reads_every_agent
finish
