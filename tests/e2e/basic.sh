#!/usr/bin/env bash
# The command line as scripts use it: every command once, its exit status, its --json, its messages.
source "$(dirname "$0")/lib.sh"
instance_new

SOURCE=$WORK/source

# --- Without a server -----------------------------------------------------------------------------

case_no_server_is_said() {
  expect 2 repository list
  expect_said holdfastd
  expect 2 snapshot create "$SOURCE"
  expect_said holdfastd
}

case_wrong_usage_is_64() {
  expect 64
  expect 64 frobnicate
  expect_said frobnicate
  expect 64 snapshot lst
  expect_said lst
  expect 64 repository create Wrong.Name
  expect 64 repository list --server tcp:somewhere
  expect 64 ls zzz
  expect 64 snapshot
  expect 64 snapshot create
  expect 64 snapshot create --no-such-flag "$SOURCE"
  expect 64 restore latest
  expect 64 diff latest
  expect 64 repository create one two
  expect 64 repository create one --encryption rot13
}

case_help_and_version() {
  expect 0 --help
  expect_said snapshot
  expect 0 snapshot create --help
  expect_said exclude
  expect 0 --version
  "$HOLDFAST_BIN/holdfastd" --help >"$WORK/out" 2>"$WORK/err" </dev/null || fail "holdfastd --help: exit $?"
  expect_said config
}

# --- Server and repository ------------------------------------------------------------------------

case_server_starts_with_no_arguments() {
  server_start
  local socket directory
  socket=$(server_socket)
  directory=$(dirname "$socket")
  [[ $(stat -c %a "$directory") == 700 ]] || fail "the socket's directory has mode $(stat -c %a "$directory")"
}

case_second_server_refuses() {
  local status=0
  timeout 30 env -u HOLDFAST_PASSWORD "$HOLDFAST_BIN/holdfastd" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
  [[ $status != 0 && $status != 124 ]] || fail "a second server on the same data: exit $status"
  server_answers || fail "and the first one no longer answers"
}

case_snapshot_before_create_fails() {
  expect 2 snapshot create "$SOURCE"
  expect_said 'repository create'
}

case_create_repository() {
  expect 0 repository create
  expect 0 repository list
  expect_said default
  expect 0 repository list --json
  [[ $(json "$WORK/out" '"default" in strings(d)') == True ]] || fail "not in repository list --json"
  expect 0 repository status
  expect 0 repository status --json
  json "$WORK/out"
  expect 2 repository create
  expect_said exist
  # From here on without a password, which is quicker; what passwords do is further below.
  expect 0 repository unlock
}

case_http_answers_on_a_unix_socket() {
  "$PYTHON" - "$XDG_RUNTIME_DIR" <<'PYTHON' >&3 || exit 99
import http.client, os, socket, sys

class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self.path = path
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self.path)

def get(path, url):
    connection = Connection(path)
    connection.request("GET", url)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()

for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(directory, name)
        try:
            status, _ = get(path, "/healthz")
        except (OSError, http.client.HTTPException):
            continue
        assert status == 200, "/healthz says %d" % status
        status, body = get(path, "/version")
        assert status == 200 and body.strip(), "/version says %d" % status
        status, body = get(path, "/metrics")
        assert status == 200 and "# TYPE" in body, "/metrics is not in Prometheus' format"
        assert get(path, "/no-such-page")[0] == 404, "an unknown page is not a 404"
        sys.exit(0)
sys.exit("no socket answers GET /healthz")
PYTHON
}

# --- Snapshots ------------------------------------------------------------------------------------

case_snapshot_and_list() {
  snapshot "$SOURCE"
  cp -a "$SOURCE" "$WORK/first"
  expect 0 snapshot list
  expect_said "${ID:0:8}"
  expect 0 snapshot list --json
  "$PYTHON" - "$WORK/out" "$SOURCE" <<'PYTHON' >&3 || exit 99
import json, os, re, sys
listed = json.load(open(sys.argv[1]))
source = sys.argv[2]
assert isinstance(listed, list) and len(listed) == 1, "not an array of one snapshot: %r" % listed
s = listed[0]
missing = {"id", "source", "time", "files", "bytes", "complete"} - set(s)
assert not missing, "without " + ", ".join(sorted(missing))
assert re.fullmatch("[0-9a-f]{64}", s["id"]), "id is %r" % s["id"]
assert s["source"].endswith(":" + source) and "@" in s["source"], "source is %r" % s["source"]
assert s["complete"] is True, "complete is %r" % s["complete"]
assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(s["time"])), "time is %r" % s["time"]
inodes, files, size = set(), 0, 0
for directory, _, names in os.walk(source):
    for name in names:
        st = os.lstat(os.path.join(directory, name))
        if os.path.isfile(os.path.join(directory, name)) and not os.path.islink(os.path.join(directory, name)):
            files += 1
            size += st.st_size
assert int(s["files"]) == files, "files is %s, not %d" % (s["files"], files)
assert 0 < int(s["bytes"]) <= size, "bytes is %s, of %d" % (s["bytes"], size)
PYTHON
}

case_show() {
  local id
  id=$(snapshot_ids | tail -n 1)
  expect 0 snapshot show "$id"
  expect_said "$id"
  expect 0 snapshot show --json "$id"
  [[ $(json "$WORK/out" "'$id' in ids(d)") == True ]] || fail "snapshot show --json without the id"
  expect 2 snapshot show 0000000000
}

case_restore_whole() {
  restore latest "$WORK/back"
  expect_equal "$WORK/first" "$WORK/back"
}

case_restore_by_prefix_and_id() {
  local id
  id=$(snapshot_ids | tail -n 1)
  restore "$id" "$WORK/back"
  expect_equal "$WORK/first" "$WORK/back"
  restore "${id:0:10}" "$WORK/back"
  expect_equal "$WORK/first" "$WORK/back"
  expect 2 restore "$(printf '%064d' 0)" --target "$WORK/none"
  [[ ! -e $WORK/none || -z $(ls -A "$WORK/none") ]] || fail "a restore of nothing wrote something"
}

case_restore_a_directory_inside() {
  restore latest:docs "$WORK/back"
  expect_equal "$WORK/first/docs" "$WORK/back"
  restore latest:docs/deep/er "$WORK/back"
  expect_equal "$WORK/first/docs/deep/er" "$WORK/back"
}

case_restore_a_file_inside() {
  restore latest:docs/medium.bin "$WORK/back"
  cmp "$WORK/first/docs/medium.bin" "$WORK/back/medium.bin"
  [[ $(ls -A "$WORK/back") == medium.bin ]] || fail "more than the file was restored: $(ls -A "$WORK/back")"
  expect 2 restore latest:no/such/path --target "$WORK/none"
}

case_restore_with_include_and_exclude() {
  restore latest "$WORK/back" --include '*.log'
  [[ $(cd "$WORK/back" && find . -type f | sort | tr '\n' ' ') == "./logs/one.log ./logs/two.log " ]] ||
    fail "--include '*.log' gave $(cd "$WORK/back" && find . -type f | sort | tr '\n' ' ')"
  cmp "$WORK/first/logs/two.log" "$WORK/back/logs/two.log"
  restore latest "$WORK/back" --exclude 'docs' --exclude '*.log'
  [[ ! -e $WORK/back/docs && ! -e $WORK/back/logs/one.log ]] || fail "--exclude left something"
  cmp "$WORK/first/logs/keep.txt" "$WORK/back/logs/keep.txt"
  cmp "$WORK/first/large.bin" "$WORK/back/large.bin"
}

case_restore_does_not_overwrite_by_itself() {
  remove "$WORK/back"
  mkdir -p "$WORK/back/logs"
  echo mine >"$WORK/back/logs/one.log"
  hf restore latest --target "$WORK/back"
  [[ $(<"$WORK/back/logs/one.log") == mine ]] || fail "a file in the target was overwritten"
  [[ $RC != 0 ]] || fail "and nothing said so"
}

case_restore_never_goes_through_a_symlink() {
  remove "$WORK/back" "$WORK/outside"
  mkdir "$WORK/back" "$WORK/outside"
  ln -s "$WORK/outside" "$WORK/back/docs"
  hf restore latest --target "$WORK/back"
  [[ -z $(ls -A "$WORK/outside") ]] || fail "the restore wrote through a symlink: $(ls -A "$WORK/outside")"
  [[ $RC != 0 || -d $WORK/back/docs && ! -L $WORK/back/docs ]] || fail "docs was not restored, and nothing said so"
}

case_ls_and_cat() {
  expect 0 ls latest
  expect_said large.bin
  expect 0 ls latest:docs
  expect_said medium.bin
  ! said large.bin || fail "ls of docs shows what is above it"
  expect 0 ls --json latest:docs
  [[ $(json "$WORK/out" 'any(s.endswith("medium.bin") for s in strings(d))') == True ]] || fail "ls --json without medium.bin"
  expect 2 ls latest:no/such/path
  local file
  for file in large.bin docs/medium.bin tiny zero docs/text-again sparse; do
    expect 0 cat "latest:$file"
    cmp "$WORK/out" "$WORK/first/$file"
  done
  expect 2 cat latest:no/such/file
  expect 2 cat latest:docs
}

case_verify() {
  expect 0 verify
  expect 0 verify latest
  expect 0 verify --json latest
  json "$WORK/out"
}

case_same_again_sends_next_to_nothing() {
  proxy_start
  snapshot "$SOURCE"
  proxy_stop
  (($(bytes_up) < 200000)) || fail "$(bytes_up) bytes for an unchanged source"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/first" "$WORK/back"
}

case_changes_are_found() {
  echo more >>"$SOURCE/logs/one.log"
  echo new >"$SOURCE/docs/new file"
  rm "$SOURCE/tiny"
  printf 'X' | dd of="$SOURCE/large.bin" bs=1 seek=1500000 conv=notrunc status=none
  chmod 0711 "$SOURCE/logs"
  mv "$SOURCE/docs/deep" "$SOURCE/docs/renamed"
  proxy_start
  snapshot "$SOURCE"
  proxy_stop
  # At most two chunks of the large file, of 4 MiB at most, and what else is small.
  (($(bytes_up) < 3500000)) || fail "$(bytes_up) bytes for a small change"
  cp -a "$SOURCE" "$WORK/second"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/second" "$WORK/back"
}

case_diff() {
  local first last name
  expect 0 snapshot list --json
  last=$(json "$WORK/out" 'max(d, key=lambda s: s["time"])["id"]')
  first=$(json "$WORK/out" 'min(d, key=lambda s: s["time"])["id"]')
  expect 0 diff "$first" "$last"
  for name in logs/one.log 'docs/new file' tiny large.bin docs/renamed docs/deep; do
    grep -q -F -- "$name" "$WORK/out" || fail "diff does not show $name"
  done
  ! grep -q -F keep.txt "$WORK/out" || fail "diff shows what did not change"
  expect 0 diff --json "$first" "$last"
  [[ $(json "$WORK/out" 'any(s.endswith("docs/new file") for s in strings(d))') == True ]] || fail "diff --json without docs/new file"
  expect 0 diff "$last" "$last"
  [[ ! -s $WORK/out ]] || fail "diff of a snapshot with itself: $(head -n 1 "$WORK/out")"
}

case_latest_needs_a_source_when_there_are_several() {
  mkdir "$WORK/other"
  echo other >"$WORK/other/file"
  snapshot "$WORK/other"
  expect '2|64' restore latest --target "$WORK/none"
  expect_said source
  local label
  expect 0 snapshot list --json
  label=$(json "$WORK/out" '[s["source"] for s in d if s["source"].endswith("/other")][0]')
  restore latest "$WORK/back" --source "$label"
  expect_equal "$WORK/other" "$WORK/back"
  [[ $(snapshot_ids --source "$label" | wc -l) == 1 ]] || fail "snapshot list --source shows others"
}

case_several_paths_make_several_snapshots() {
  mkdir "$WORK/path-a" "$WORK/path-b"
  echo a >"$WORK/path-a/a"
  echo b >"$WORK/path-b/b"
  expect 0 snapshot create --json "$WORK/path-a" "$WORK/path-b"
  local ids
  mapfile -t ids < <(json "$WORK/out" 'ids(d)')
  [[ ${#ids[@]} == 2 ]] || fail "${#ids[@]} ids for two paths"
  restore "${ids[0]}" "$WORK/back"
  expect_equal "$WORK/path-a" "$WORK/back"
  restore "${ids[1]}" "$WORK/back"
  expect_equal "$WORK/path-b" "$WORK/back"
}

case_one_bad_path_does_not_stop_the_others() {
  expect '1|2' snapshot create --json "$WORK/no-such-path" "$WORK/path-a"
  grep -q no-such-path "$WORK/err" || fail "the missing path is not named"
  [[ $(json "$WORK/out" 'len(ids(d))') == 1 ]] || fail "the other path has no snapshot"
}

case_paths_in_other_spellings_are_one_source() {
  local before after
  before=$(snapshot_ids | wc -l)
  (cd "$WORK" && snapshot path-a/)
  (cd "$WORK/path-a" && snapshot .)
  expect 0 snapshot list --json
  [[ $(json "$WORK/out" 'len({s["source"] for s in d if s["source"].endswith("path-a")})') == 1 ]] ||
    fail "other spellings of a path became other sources: $(json "$WORK/out" '[s["source"] for s in d]' | sort -u | tr '\n' ' ')"
  after=$(snapshot_ids | wc -l)
  ((after == before + 2)) || fail "$after snapshots, not $((before + 2))"
}

case_a_single_file_is_a_source() {
  head -c 300000 /dev/urandom >"$WORK/single"
  snapshot "$WORK/single"
  remove "$WORK/back"
  expect 0 restore "$ID" --target "$WORK/back"
  local restored=$WORK/back
  [[ -d $restored ]] && restored=$WORK/back/single
  cmp "$WORK/single" "$restored"
}

case_a_single_file_is_listed_and_shown() {
  expect 0 ls latest:single --source "$WORK/single"
  expect 0 cat latest:single --source "$WORK/single"
  cmp "$WORK/out" "$WORK/single"
  expect 2 ls latest:other --source "$WORK/single"
}

# Brackets and "++" mean something to the parser of arguments.
case_paths_that_look_like_something_else() {
  mkdir -p "$WORK/odd/[x]" "$WORK/odd/x" "$WORK/odd/++"
  echo right >"$WORK/odd/[x]/file"
  local path
  for path in '[x]' '++'; do
    (cd "$WORK/odd" && expect 0 snapshot create --json --full "$path")
    [[ $(json "$WORK/out" 'strings(d)') == *"$WORK/odd/$path"* ]] || fail "$path became $(json "$WORK/out" 'd["source"]')"
  done
  # A slash at the end of a source, and bytes that are not UTF-8.
  path=$WORK/odd/$(printf 'p\377')
  mkdir "$path"
  expect 0 snapshot create "$path"
  expect 0 ls latest --source "$path/"
  expect 2 verify --source "$WORK/nowhere"
  expect_said nowhere
}

case_times_far_away_are_shown() {
  mkdir "$WORK/far"
  touch -d '2400-01-02 03:04:05 UTC' "$WORK/far/file"
  [[ $(stat -c %y "$WORK/far/file") == 2400* ]] || skip "this file system has no such times"
  snapshot "$WORK/far"
  expect 0 ls --json "$ID"
  expect_said 2400-01-02T03:04:05
}

case_an_empty_directory_is_a_source() {
  mkdir -m 0750 "$WORK/nothing"
  snapshot "$WORK/nothing"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/nothing" "$WORK/back"
}

# --- What is left out -----------------------------------------------------------------------------

case_excludes() {
  local tree=$WORK/excludes
  mkdir -p "$tree/keep" "$tree/build/out" "$tree/cache" "$tree/nested/build"
  touch "$tree/keep/a.c" "$tree/keep/a.o" "$tree/build/out/x" "$tree/nested/build/y" "$tree/secret.tmp" "$tree/nested/important.tmp"
  printf 'Signature: 8a477f597d28d172789f06886806bc55\n' >"$tree/cache/CACHEDIR.TAG"
  touch "$tree/cache/entry"
  printf '# comment\n*.tmp\n!important.tmp\n/build/\n' >"$tree/.holdfastignore"
  snapshot "$tree" --exclude '*.o'
  restore "$ID" "$WORK/back"
  local found
  found=$(cd "$WORK/back" && find . -type f | sort | tr '\n' ' ')
  [[ $found == "./.holdfastignore ./cache/CACHEDIR.TAG ./keep/a.c ./nested/build/y ./nested/important.tmp " ]] ||
    fail "left over: $found"
}

case_one_file_system() {
  [[ $(id -u) == 0 ]] || skip "needs root"
  mkdir -p "$WORK/mounts/other"
  echo here >"$WORK/mounts/file"
  mount -t tmpfs none "$WORK/mounts/other" || skip "no tmpfs mount"
  echo there >"$WORK/mounts/other/file"
  snapshot "$WORK/mounts" --one-file-system
  restore "$ID" "$WORK/back"
  [[ -d $WORK/back/other && ! -e $WORK/back/other/file ]] || fail "--one-file-system went into another file system, or lost the mount point"
  snapshot "$WORK/mounts"
  restore "$ID" "$WORK/back"
  umount "$WORK/mounts/other"
  [[ $(<"$WORK/back/other/file") == there ]] || fail "without --one-file-system the other file system is missing"
}

case_pseudo_file_systems_are_skipped_and_said_so() {
  [[ $(id -u) == 0 ]] || skip "needs root"
  mkdir -p "$WORK/pseudo/proc"
  mount -t proc none "$WORK/pseudo/proc" || skip "no proc mount"
  expect '0|1' snapshot create --json "$WORK/pseudo"
  ID=$(json "$WORK/out" 'ids(d)[-1]')
  expect_said proc
  umount "$WORK/pseudo/proc"
  restore "$ID" "$WORK/back"
  [[ -z $(ls -A "$WORK/back/proc") ]] || fail "proc was backed up"
}

case_own_repository_is_skipped_and_said_so() {
  local own
  own=$(repository_dir)
  mkdir -p "$WORK/unrelated"
  hf snapshot create --json "$(dirname "$own")"
  # Refusing is as good as leaving it out.
  if [[ $RC == 0 || $RC == 1 ]]; then
    ID=$(json "$WORK/out" 'ids(d)[-1]')
    expect_said skip
    remove "$WORK/back"
    expect 0 restore "$ID" --target "$WORK/back"
    [[ -z $(find "$WORK/back" -path '*/packs/*' -type f) ]] || fail "the repository backed itself up"
  else
    expect_said repository
  fi
}

# --- Deleting -------------------------------------------------------------------------------------

case_delete_leaves_others_restorable() {
  expect 0 snapshot list --json
  local oldest rest
  oldest=$(json "$WORK/out" 'min(d, key=lambda s: s["time"])["id"]')
  rest=$(json "$WORK/out" '[s["id"] for s in sorted(d, key=lambda s: s["time"]) if s["source"].endswith("/source")][-1]')
  expect 0 snapshot delete "$oldest"
  snapshot_ids >"$WORK/ids"
  ! grep -q "$oldest" "$WORK/ids" || fail "the deleted snapshot is still listed"
  expect 2 restore "$oldest" --target "$WORK/none"
  restore "$rest" "$WORK/back"
  expect_equal "$WORK/second" "$WORK/back"
  expect 2 snapshot delete 00000000
}

# --- Passwords and keys ---------------------------------------------------------------------------

case_wrong_password() {
  expect 0 repository lock
  local id
  id=$(snapshot_ids | tail -n 1)
  HOLDFAST_PASSWORD=wrong expect 2 restore "$id" --target "$WORK/none"
  expect_said password
  HOLDFAST_PASSWORD=wrong expect 2 snapshot create "$SOURCE"
  expect_said password
  HOLDFAST_PASSWORD=wrong expect 2 verify
  expect_said password
  [[ ! -e $WORK/none ]] || fail "a wrong password made a restore directory"
}

case_password_from_file_and_command() {
  printf '%s\n' "$HOLDFAST_PASSWORD" >"$WORK/password"
  chmod 0600 "$WORK/password"
  (
    unset HOLDFAST_PASSWORD
    expect 0 snapshot create "$WORK/other" --password-file "$WORK/password"
    expect 0 snapshot create "$WORK/other" --password-command "cat '$WORK/password'"
    expect 2 snapshot create "$WORK/other" --password-file "$WORK/no-such-file"
    expect 2 snapshot create "$WORK/other" --password-command false
    expect 2 snapshot create "$WORK/other"
    expect_said password
  )
}

case_unlock_and_lock() {
  expect 0 repository unlock
  local file found=0
  while IFS= read -r -d '' file; do
    found=1
    [[ $(stat -c %a "$file") == 600 ]] || fail "$file has mode $(stat -c %a "$file")"
    ! grep -a -q -F "$HOLDFAST_PASSWORD" "$file" || fail "$file holds the password"
  done < <(find "$XDG_CONFIG_HOME" -type f -print0)
  [[ $found == 1 ]] || fail "no file in XDG_CONFIG_HOME after unlock"
  (
    unset HOLDFAST_PASSWORD
    snapshot "$WORK/other"
    restore "$ID" "$WORK/back"
    expect_equal "$WORK/other" "$WORK/back"
  )
  expect 0 repository lock
  unset HOLDFAST_PASSWORD
  expect 2 snapshot create "$WORK/other"
}

case_recovery_key() {
  expect 0 repository recovery-key
  local key
  key=$(grep -a -o -E '([0-9A-HJKMNP-TV-Z]{4}-){8}[0-9A-HJKMNP-TV-Z]{4}' "$WORK/out" | head -n 1)
  [[ -n $key ]] || fail "no recovery key in the output"
  echo "$key" >"$WORK/recovery-key"
  HOLDFAST_PASSWORD=$key expect 0 verify
  HOLDFAST_PASSWORD=$(tr 'A-Z' 'a-z' <<<"$key") expect 0 verify
  HOLDFAST_PASSWORD=${key%????}0000 expect 2 verify
}

# Whoever has forgotten the password has nothing else.
case_recovery_key_that_cannot_be_printed_is_not_lost() {
  local status=0 key
  "$HOLDFAST_BIN/holdfast" repository recovery-key >/dev/full 2>"$WORK/err" </dev/null || status=$?
  [[ $status == 2 ]] || fail "exit $status"
  key=$(grep -a -o -E '([0-9A-HJKMNP-TV-Z]{4}-){8}[0-9A-HJKMNP-TV-Z]{4}' "$WORK/err" | head -n 1)
  [[ -n $key ]] || fail "the key is nowhere: $(cat "$WORK/err")"
  echo "$key" >"$WORK/recovery-key"
  HOLDFAST_PASSWORD=$key expect 0 verify
}

case_password_change() {
  local old=$HOLDFAST_PASSWORD new="another $RANDOM password"
  HOLDFAST_NEW_PASSWORD=$new expect 0 repository password
  HOLDFAST_PASSWORD=$old expect 2 verify
  HOLDFAST_PASSWORD=$new expect 0 verify
  HOLDFAST_PASSWORD=$(<"$WORK/recovery-key") expect 0 verify
  HOLDFAST_PASSWORD=$new HOLDFAST_NEW_PASSWORD=$old expect 0 repository password
  expect 0 verify
  expect 0 repository unlock
}

# --- Several at once ------------------------------------------------------------------------------

case_several_repositories() {
  expect 0 repository create second
  expect 0 repository list --json
  [[ $(json "$WORK/out" '"second" in strings(d) and "default" in strings(d)') == True ]] || fail "not both are listed"
  snapshot "$WORK/path-a" --repository second
  local id=$ID
  [[ $(snapshot_ids --repository second) == "$id" ]] || fail "the second repository has not exactly its snapshot"
  ! snapshot_ids | grep -q "$id" || fail "the default repository lists the second one's snapshot"
  restore "$id" "$WORK/back" --repository second
  expect_equal "$WORK/path-a" "$WORK/back"
  expect 2 restore "$id" --target "$WORK/none"
  expect 0 verify --repository second
  expect 2 snapshot list --repository third
}

case_two_sources_at_once() {
  local status_a=0 status_b=0 a b
  mkdir -p "$WORK/left" "$WORK/right"
  head -c 20000000 /dev/urandom >"$WORK/left/data"
  cp "$WORK/left/data" "$WORK/right/data"
  "$HOLDFAST_BIN/holdfast" snapshot create "$WORK/left" >"$WORK/out.a" 2>&1 </dev/null &
  a=$!
  "$HOLDFAST_BIN/holdfast" snapshot create "$WORK/right" >"$WORK/out.b" 2>&1 </dev/null &
  b=$!
  wait $a || status_a=$?
  wait $b || status_b=$?
  [[ $status_a$status_b == 00 ]] || fail "exit $status_a and $status_b: $(tail -n 1 "$WORK/out.a") $(tail -n 1 "$WORK/out.b")"
  expect 0 verify
}

case_second_run_of_a_source_says_so() {
  mkdir -p "$WORK/busy"
  head -c 60000000 /dev/urandom >"$WORK/busy/data"
  touch "$WORK/stall"
  proxy_start --stall-file "$WORK/stall" --stall-after 8000000
  "$HOLDFAST_BIN/holdfast" snapshot create "$WORK/busy" >"$WORK/out.first" 2>&1 </dev/null &
  local first=$! status=0
  track first $first
  wait_until 30 bytes_up_at_least 8000000 || fail "the first run does not get to 8 MB"
  HOLDFAST_SERVER='' expect 2 snapshot create "$WORK/busy"
  expect_said 'already\|another\|running\|in progress\|busy'
  rm "$WORK/stall"
  wait $first || status=$?
  proxy_stop
  [[ $status == 0 ]] || fail "the first run: exit $status: $(tail -n 1 "$WORK/out.first")"
  local id
  expect 0 snapshot list --json
  id=$(json "$WORK/out" '[s["id"] for s in d if s["source"].endswith("/busy")][-1]')
  restore "$id" "$WORK/back"
  expect_equal "$WORK/busy" "$WORK/back"
}

case_interrupt_leaves_nothing_broken() {
  head -c 60000000 /dev/urandom >"$WORK/busy/data"
  local before
  before=$(snapshot_ids | wc -l)
  touch "$WORK/stall"
  proxy_start --stall-file "$WORK/stall" --stall-after 30000000
  # Background jobs, and what was started as one, ignore SIGINT, and so would the client.
  "$PYTHON" -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$HOLDFAST_BIN/holdfast" snapshot create "$WORK/busy" >"$WORK/out.first" 2>&1 </dev/null &
  local first=$! status=0
  track first $first
  wait_until 30 bytes_up_at_least 30000000 || fail "the run does not get to 30 MB"
  kill -INT $first
  sleep 0.2
  rm "$WORK/stall"
  wait_gone $first 20 || fail "still running 20 s after SIGINT"
  wait $first || status=$?
  proxy_stop
  [[ $status != 0 ]] || fail "exit 0 after SIGINT"
  [[ $(snapshot_ids | wc -l) == "$before" ]] || fail "the interrupted run left a snapshot"
  proxy_start
  snapshot "$WORK/busy"
  proxy_stop
  (($(bytes_up) < 50000000)) || fail "$(bytes_up) bytes again after 30 MB had been sent"
  restore "$ID" "$WORK/back"
  expect_equal "$WORK/busy" "$WORK/back"
}

# --- Output ---------------------------------------------------------------------------------------

case_no_carriage_returns_without_a_terminal() {
  expect 0 snapshot create "$SOURCE"
  ! grep -a -q $'\r' "$WORK/out" "$WORK/err" || fail "progress with carriage returns into a file"
  ! grep -a -q $'\e' "$WORK/out" "$WORK/err" || fail "terminal escapes into a file"
}

case_json_everywhere() {
  local id arguments
  expect 0 snapshot list --json
  id=$(json "$WORK/out" '[s["id"] for s in d if s["source"].endswith("/source")][-1]')
  remove "$WORK/back"
  while IFS= read -r arguments; do
    # shellcheck disable=SC2086
    expect 0 $arguments --json
    json "$WORK/out" >&3 || exit 99
  done <<LINES
repository list
repository status
repository unlock
repository lock
repository create third
snapshot list
snapshot show $id
snapshot create $WORK/other
verify $id
diff $id $id
ls $id
restore $id --target $WORK/back
LINES
  expect 2 restore 0000 --target "$WORK/none" --json
  if [[ -s $WORK/out ]]; then json "$WORK/out"; fi
}

case_hostile_names_do_not_reach_the_terminal_raw() {
  mkdir "$WORK/hostile"
  touch "$WORK/hostile/"$'\e[31mred' "$WORK/hostile/"$'new\nline' "$WORK/hostile/"$'\xff'
  snapshot "$WORK/hostile"
  expect 0 ls --json "$ID"
  json "$WORK/out" >&3 || exit 99
  command -v script >/dev/null || skip "no script(1)"
  script -q -e -c "'$HOLDFAST_BIN/holdfast' ls $ID" "$WORK/typescript" >/dev/null </dev/null
  ! grep -a -q $'\e\[31mred' "$WORK/typescript" || fail "ls shows an escape sequence from a file name"
}

# --- Server ---------------------------------------------------------------------------------------

case_server_option() {
  local socket
  socket=$(server_socket)
  expect 0 snapshot list --server "unix:$socket"
  HOLDFAST_SERVER=unix:$socket expect 0 snapshot list
  expect 2 snapshot list --server "unix:$WORK/no-such-socket"
  expect '2|64' snapshot list --server "nonsense:x"
}

case_server_stops_at_once_after_any_command() {
  local id arguments started took
  expect 0 snapshot list --json
  id=$(json "$WORK/out" '[s["id"] for s in d if s["source"].endswith("/source")][-1]')
  remove "$WORK/back"
  while IFS= read -r arguments; do
    # shellcheck disable=SC2086
    expect 0 $arguments
    started=$SECONDS
    server_stop
    took=$((SECONDS - started))
    server_start
    ((took <= 4 * HF_PATIENCE)) || fail "$took s to stop after ${arguments%% *}"
    remove "$WORK/back"
    # Some more than once: whether a stream is still open then is a matter of luck.
  done <<LINES
snapshot create $SOURCE
restore $id --target $WORK/back
verify $id
cat $id:large.bin
restore $id --target $WORK/back
verify $id
restore $id --target $WORK/back
verify $id
LINES
}

# Cron sets none of them: both programs then meet in a directory of the machine, with data below HOME.
case_without_xdg_variables() {
  local run=/run/user/$(id -u) pid made
  if [[ -d $run ]]; then made=$run/holdfast; elif [[ $(id -u) == 0 ]]; then made=/run/holdfast; else made=/tmp/holdfast-$(id -u); fi
  [[ ! -e $made ]] || skip "$made exists already: a server of this machine may use it"
  local bare=(env -u XDG_RUNTIME_DIR -u XDG_DATA_HOME -u XDG_CONFIG_HOME -u XDG_CACHE_HOME -u XDG_STATE_HOME HOME="$WORK/cron")
  mkdir "$WORK/cron"
  env -u HOLDFAST_PASSWORD "${bare[@]}" "$HOLDFAST_BIN/holdfastd" >"$WORK/out.cron" 2>&1 3>&- </dev/null &
  pid=$!
  track cron $pid
  local created=no
  wait_until 30 "${bare[@]}" "$HOLDFAST_BIN/holdfast" repository list >/dev/null 2>&1 && created=yes
  if [[ $created == yes ]]; then
    [[ $(stat -c %a "$made") == 700 ]] || fail "$made has mode $(stat -c %a "$made")"
    "${bare[@]}" "$HOLDFAST_BIN/holdfast" repository create >/dev/null 2>&1 || created=no
    "${bare[@]}" "$HOLDFAST_BIN/holdfast" snapshot create "$WORK/path-a" >/dev/null 2>&1 || created=no
    [[ -n $(find "$WORK/cron" -name packs) ]] || created=no
  fi
  kill -TERM $pid
  wait_gone $pid 30 || true
  rm -rf "$made"
  [[ $created == yes ]] || fail "server and client do not meet without XDG variables: $(tail -n 2 "$WORK/out.cron")"
}

case_too_long_socket_path_is_said() {
  local long status=0
  long=$WORK/$(printf 'l%.0s' {1..120})
  mkdir -m 0700 "$long"
  XDG_RUNTIME_DIR=$long timeout 20 "$HOLDFAST_BIN/holdfastd" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
  [[ $status != 0 && $status != 124 ]] || fail "exit $status with a socket path of more than 107 bytes"
  expect_said '107\|long\|short'
}

case_socket_directory_of_others_is_left_alone() {
  local status=0
  mkdir -m 1777 "$WORK/shared"
  chmod 1777 "$WORK/shared"
  printf 'socket = "%s/h.sock"\ndata_directory = "%s/data"\n' "$WORK/shared" "$WORK/shared" >"$WORK/config.toml"
  timeout 20 "$HOLDFAST_BIN/holdfastd" --config "$WORK/config.toml" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
  [[ $status == 2 ]] || fail "exit $status with a socket where everybody may reach it"
  expect_said "$WORK/shared"
  [[ $(stat -c %a "$WORK/shared") == 1777 ]] || fail "it has mode $(stat -c %a "$WORK/shared") now"
}

case_socket_paths_may_hold_any_character() {
  local odd=$WORK/$'o#d?d%41 \xc3\xbc' pid answers=no
  mkdir -m 0700 "$odd"
  XDG_RUNTIME_DIR=$odd XDG_DATA_HOME=$WORK/odd-data "$HOLDFAST_BIN/holdfastd" >"$WORK/out.odd" 2>&1 3>&- </dev/null &
  pid=$!
  track odd $pid
  XDG_RUNTIME_DIR=$odd wait_until 20 server_answers && answers=yes
  kill -TERM $pid
  wait_gone $pid 30 || true
  [[ $answers == yes ]] || fail "no answer: $(tail -n 2 "$WORK/out.odd")"
  # Any but one.
  expect 64 repository list --server "unix:$WORK/a,b"
  expect_said comma
}

case_clean_restart() {
  local before pid status=0
  before=$(snapshot_ids)
  pid=$(server_pid)
  server_stop
  expect 2 repository list
  # Started by this shell, so that its exit status can be had.
  server_start
  [[ $(snapshot_ids) == "$before" ]] || fail "other snapshots after a restart"
  pid=$(server_pid)
  kill -TERM "$pid"
  wait_gone "$pid" 60 || fail "the server is still there 60 s after SIGTERM"
  wait "$pid" || status=$?
  [[ $status == 0 ]] || fail "exit $status after SIGTERM"
  server_start
  expect 0 verify
}

make_small_tree "$SOURCE"

check no_server_is_said
check wrong_usage_is_64
check help_and_version
check server_starts_with_no_arguments
check second_server_refuses
check snapshot_before_create_fails
check create_repository
check http_answers_on_a_unix_socket
check snapshot_and_list
check show
check restore_whole
check restore_by_prefix_and_id
check restore_a_directory_inside
check restore_a_file_inside
check restore_with_include_and_exclude
check restore_does_not_overwrite_by_itself
check restore_never_goes_through_a_symlink
check ls_and_cat
check verify
check same_again_sends_next_to_nothing
check changes_are_found
check diff
check latest_needs_a_source_when_there_are_several
check several_paths_make_several_snapshots
check one_bad_path_does_not_stop_the_others
check paths_in_other_spellings_are_one_source
check a_single_file_is_a_source
check a_single_file_is_listed_and_shown
check paths_that_look_like_something_else
check times_far_away_are_shown
check an_empty_directory_is_a_source
check excludes
check one_file_system
check pseudo_file_systems_are_skipped_and_said_so
check own_repository_is_skipped_and_said_so
check delete_leaves_others_restorable
check wrong_password
check password_from_file_and_command
check unlock_and_lock
check recovery_key
check recovery_key_that_cannot_be_printed_is_not_lost
check password_change
check several_repositories
check two_sources_at_once
check second_run_of_a_source_says_so
check interrupt_leaves_nothing_broken
check no_carriage_returns_without_a_terminal
check json_everywhere
check hostile_names_do_not_reach_the_terminal_raw
check server_option
check server_stops_at_once_after_any_command
check without_xdg_variables
check too_long_socket_path_is_said
check socket_directory_of_others_is_left_alone
check socket_paths_may_hold_any_character
check clean_restart
finish
