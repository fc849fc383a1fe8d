# What every end-to-end test is made of. Source it, then:
#
#   instance_new [--split]     a test instance in a directory of its own ($WORK), removed at the end
#   server_start [VAR=VALUE]   starts holdfastd with no arguments and waits until it answers
#   check NAME [ARGS]          runs the function case_NAME in a subshell and prints ok or FAIL
#   finish                     prints the totals; exit status 0 if nothing failed, and something ran that was asked for
#
# Inside a case any failing command ends it; `fail WHY` says why. Binaries come from $HOLDFAST_BIN
# (default: bin/ of the repository). HOLDFAST_TEST_PATIENCE multiplies every deadline (default 1);
# HOLDFAST_TEST_ONLY is an extended regular expression of case names; HOLDFAST_TEST_KEEP=1 keeps $WORK;
# HOLDFAST_TEST_VERBOSE=1 shows what a failed case printed; HOLDFAST_TEST_TIMES=1 shows durations;
# HOLDFAST_TEST_LOGS=DIR keeps what every case printed.
# Nothing here needs the source tree except tests/tools.

HF_E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HF_TOOLS=$(cd "$HF_E2E/../tools" && pwd)
HOLDFAST_BIN=${HOLDFAST_BIN:-$(cd "$HF_E2E/../.." && pwd)/bin}
HF_PATIENCE=${HOLDFAST_TEST_PATIENCE:-1}
HF_COMMAND_SECONDS=$((180 * HF_PATIENCE))
HF_PASSED=0
HF_FAILED=0
HF_SKIPPED=0
exec 3>&2
# Debian's own: others may lie where an ordinary user has no access.
if [[ -x /usr/bin/python3 ]]; then PYTHON=/usr/bin/python3; else PYTHON=python3; fi
export PYTHONDONTWRITEBYTECODE=1
# A library path or settings of the caller must not change what is tested.
unset HOLDFAST_SERVER HOLDFAST_CRASH_POINT CDPATH
export LC_ALL=C.UTF-8

for program in holdfast holdfastd; do
  if [[ ! -x $HOLDFAST_BIN/$program ]]; then
    echo "FAIL setup: no $program in $HOLDFAST_BIN (build with deploy/build.sh, or set HOLDFAST_BIN)"
    echo "0 passed, 1 failed"
    exit 1
  fi
done

# --- Instance -------------------------------------------------------------------------------------

# All of one test's files, sockets and processes. The path is short: socket names have 107 bytes at most.
instance_new() {
  WORK=$(mktemp -d /tmp/hf.XXXXXX)
  mkdir -m 0700 "$WORK/r"
  mkdir "$WORK/pids" "$WORK/logs"
  export XDG_RUNTIME_DIR=$WORK/r
  export HOME=$WORK/home
  mkdir "$HOME"
  export HOLDFAST_PASSWORD="correct horse $RANDOM battery"
  SERVER_HOME=$WORK/here
  [[ ${1:-} == --split ]] && SERVER_HOME=$WORK/server
  mkdir -p "$SERVER_HOME"
  use_agent here
  SERVER_LOG=$WORK/logs/server.log
  trap instance_end EXIT
  # So that a stopped test cleans up, too.
  trap 'exit 143' HUP INT TERM
}

# The client's side of everything that follows belongs to the agent of this name.
use_agent() {
  local home=$WORK/$1
  mkdir -p "$home/data" "$home/config" "$home/cache" "$home/state"
  export XDG_DATA_HOME=$home/data XDG_CONFIG_HOME=$home/config
  export XDG_CACHE_HOME=$home/cache XDG_STATE_HOME=$home/state
}

instance_end() {
  local status=$? pid_file pid
  trap - EXIT
  for pid_file in "$WORK"/pids/*; do
    [[ -e $pid_file ]] || continue
    pid=$(<"$pid_file")
    kill -CONT "$pid" 2>/dev/null
    kill -KILL "$pid" 2>/dev/null
  done
  local mount
  while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null; done \
    < <(awk -v w="$WORK/" 'index($2, w) == 1 { print $2 }' /proc/self/mounts | sort -r)
  if [[ -n ${HOLDFAST_TEST_KEEP:-} ]]; then
    echo "kept: $WORK" >&2
  else
    remove "$WORK"
  fi
  exit "$status"
}

# Also what is read-only, as an ordinary user.
remove() {
  rm -rf -- "$@" 2>/dev/null && return
  find "$@" -type d ! -perm -0700 -exec chmod u+rwx {} + 2>/dev/null
  rm -rf -- "$@"
}

# --- Processes ------------------------------------------------------------------------------------

# Remembered, so that instance_end leaves none behind.
track() { echo "$2" >"$WORK/pids/$1"; }

# A process that nobody waited for yet is gone, too.
is_running() {
  local state
  # All threads: a killed process has its locks until the last one is gone, although its first is a zombie before.
  for state in $(sed 's/.*) \(.\).*/\1/' "/proc/$1/task/"*/stat 2>/dev/null || true); do
    [[ $state == [ZX] ]] || return 0
  done
  return 1
}

# wait_until SECONDS COMMAND...: polls; status 1 when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1 * HF_PATIENCE))
  shift
  until "$@"; do
    ((SECONDS <= deadline)) || return 1
    sleep 0.05
  done
}

wait_gone() { wait_until "$2" not is_running "$1"; }
not() { ! "$@"; }

server_pid() { cat "$WORK/pids/server"; }
server_answers() { timeout 10 "$HOLDFAST_BIN/holdfast" repository list </dev/null >/dev/null 2>&1; }

# Starts the server; arguments are extra environment. Its output goes to $SERVER_LOG.
server_launch() {
  # The password is nothing the server should ever see.
  env -u HOLDFAST_PASSWORD -u HOLDFAST_NEW_PASSWORD -u HOLDFAST_SERVER \
    XDG_DATA_HOME="$SERVER_HOME/data" XDG_CONFIG_HOME="$SERVER_HOME/config" \
    XDG_CACHE_HOME="$SERVER_HOME/cache" XDG_STATE_HOME="$SERVER_HOME/state" "$@" \
    "$HOLDFAST_BIN/holdfastd" >>"$SERVER_LOG" 2>&1 3>&- </dev/null &
  track server $!
}

server_ready_or_gone() { not is_running "$(server_pid)" || server_answers; }

server_start() {
  server_launch "$@"
  wait_until 60 server_ready_or_gone || fail "the server does not answer after 60 s"
  is_running "$(server_pid)" || fail "the server ended at its start: $(tail -n 3 "$SERVER_LOG")"
}

server_stop() {
  local pid
  pid=$(server_pid)
  kill -TERM "$pid" 2>/dev/null
  wait_gone "$pid" 60 || fail "the server is still there 60 s after SIGTERM"
  rm -f "$WORK/pids/server"
}

server_kill() {
  local pid
  pid=$(server_pid)
  kill -KILL "$pid" 2>/dev/null
  wait_gone "$pid" 30
  rm -f "$WORK/pids/server"
}

# The socket that backup data goes through (there may be one for HTTP, too).
server_socket() {
  local socket
  while IFS= read -r socket; do
    if timeout 10 "$HOLDFAST_BIN/holdfast" repository list --server "unix:$socket" </dev/null >/dev/null 2>&1; then
      echo "$socket"
      return
    fi
  done < <(find "$XDG_RUNTIME_DIR" -type s)
  fail "no socket under XDG_RUNTIME_DIR answers 'repository list --server unix:...'"
}

# The directory with one repository's blobs (docs/format.md, section 1).
repository_dir() {
  local found
  found=$(find "$SERVER_HOME" -type d -name packs -path "*${1:-}*" | head -n 1)
  [[ -n $found ]] || fail "no packs/ under the server's data directory"
  dirname "$found"
}

rocksdb_dirs() { find "$SERVER_HOME" -name CURRENT -type f -printf '%h\n'; }

# --- The client -----------------------------------------------------------------------------------

# Runs holdfast; output in $WORK/out and $WORK/err, status in RC. Never waits for a terminal.
hf() {
  RC=0
  timeout -k 10 "$HF_COMMAND_SECONDS" "$HOLDFAST_BIN/holdfast" "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || RC=$?
  [[ $RC != 124 && $RC != 137 ]] || fail "holdfast $* did not end within $HF_COMMAND_SECONDS s"
}

# expect STATUS ARGS...: runs holdfast and insists on its exit status; "1|2" allows both.
expect() {
  local allowed=$1
  shift
  hf "$@"
  [[ "|$allowed|" == *"|$RC|"* ]] || fail "holdfast $*: exit $RC, not $allowed: $(tail -n 3 "$WORK/err" | cut -c 1-300)"
}

# Both streams of the last command.
said() { grep -a -q -i -e "$1" "$WORK/out" "$WORK/err"; }
expect_said() { said "$1" || fail "nothing said about '$1': $(tail -n 3 "$WORK/err" | cut -c 1-300)"; }

json() { "$PYTHON" "$HF_TOOLS/json_get.py" "$@"; }

# snapshot PATH [FLAGS]: makes a snapshot that must be without errors; its id in ID.
snapshot() {
  expect 0 snapshot create --json "$@"
  ID=$(json "$WORK/out" 'ids(d)[-1]') || fail "snapshot create --json shows no id: $(head -c 300 "$WORK/out")"
}

snapshot_ids() {
  expect 0 snapshot list --json "$@"
  json "$WORK/out" 'ids(d)'
}

# restore SNAPSHOT DIR [FLAGS]: into a new directory; must be without errors.
restore() {
  local what=$1 target=$2
  shift 2
  remove "$target"
  expect 0 restore "$what" --target "$target" "$@"
}

# expect_equal A B [FLAGS of compare_trees.py]
expect_equal() {
  local flags=()
  [[ $(id -u) == 0 ]] || flags=(--ignore-owner)
  "$PYTHON" "$HF_TOOLS/compare_trees.py" "$@" "${flags[@]}" --quiet >"$WORK/compare" 2>&1 ||
    fail "$1 and $2 differ: $(head -n 5 "$WORK/compare" | cut -c 1-300)"
}

make_tree() { "$PYTHON" "$HF_TOOLS/make_tree.py" "$@" 2>>"$WORK/logs/make_tree"; }

# A few files of every size class, with what ordinary trees have.
make_small_tree() {
  mkdir -p "$1/docs/deep/er" "$1/logs" "$1/empty"
  head -c 3000000 /dev/urandom >"$1/large.bin"
  head -c 200000 /dev/urandom >"$1/docs/medium.bin"
  seq 1 30000 >"$1/docs/text"
  seq 1 3000 >"$1/docs/deep/er/text"
  printf 'tiny' >"$1/tiny"
  : >"$1/zero"
  seq 1 100 >"$1/logs/one.log"
  seq 1 200 >"$1/logs/two.log"
  seq 1 300 >"$1/logs/keep.txt"
  ln -s docs/text "$1/link"
  ln "$1/docs/text" "$1/docs/text-again"
  mkfifo "$1/fifo"
  chmod 0640 "$1/docs/medium.bin"
  truncate -s 2M "$1/sparse"
  printf 'end' >>"$1/sparse"
  touch -d '2001-02-03 04:05:06.123456789' "$1/docs/text" "$1/docs"
  touch -h -d '2003-02-01 00:00:00.5' "$1/link"
}

# --- The wire -------------------------------------------------------------------------------------

# proxy_start [FLAGS of wire_proxy.py]: from now on the client talks through it.
proxy_start() {
  local socket
  socket=$(unset HOLDFAST_SERVER && server_socket)
  rm -f "$WORK/p.sock"
  "$PYTHON" "$HF_TOOLS/wire_proxy.py" --listen "$WORK/p.sock" --to "$socket" --counts "$WORK/counts" "$@" \
    >>"$WORK/logs/proxy.log" 2>&1 3>&- &
  track proxy $!
  wait_until 20 test -S "$WORK/p.sock" || fail "the proxy does not start"
  export HOLDFAST_SERVER=unix:$WORK/p.sock
}

proxy_stop() {
  local pid
  pid=$(cat "$WORK/pids/proxy")
  kill -TERM "$pid" 2>/dev/null
  wait_gone "$pid" 10
  rm -f "$WORK/pids/proxy" "$WORK/p.sock"
  unset HOLDFAST_SERVER
}

# Bytes that went to the server so far.
bytes_up() { awk '{ print $1 }' "$WORK/counts"; }
bytes_down() { awk '{ print $2 }' "$WORK/counts"; }
bytes_up_at_least() { (($(bytes_up) >= $1)); }

# --- Cases ----------------------------------------------------------------------------------------

# To descriptor 3: standard output may be captured.
fail() {
  echo "$*" >&3
  exit 99
}

# Ends a case that cannot run here.
skip() {
  echo "$*" >&3
  exit 77
}

# check NAME [ARGS]: runs case_NAME in a subshell in which any failing command is fatal. What one case
# leaves for the next is in files and processes, not in variables.
check() {
  local name=$1 status why started=$SECONDS label="$*"
  local log=$WORK/logs/${label// /_}
  [[ $label =~ ${HOLDFAST_TEST_ONLY:-.} ]] || return 0
  shift
  (
    set -eE
    trap 'echo "line $LINENO: $BASH_COMMAND"' ERR
    "case_$name" "$@"
  ) >"$log" 2>&1 3>"$WORK/why"
  status=$?
  why=$(tr '\n' ' ' <"$WORK/why" | cut -c 1-600)
  case $status in
    0)
      HF_PASSED=$((HF_PASSED + 1))
      echo "ok $label"
      ;;
    77)
      HF_SKIPPED=$((HF_SKIPPED + 1))
      echo "skip $label: ${why% }"
      ;;
    *)
      HF_FAILED=$((HF_FAILED + 1))
      [[ -n $why ]] || why="exit $status: $(grep -a '^line ' "$log" | head -n 1 | cut -c 1-300)"
      echo "FAIL $label: $why"
      if [[ -n ${HOLDFAST_TEST_VERBOSE:-} ]]; then
        sed 's/^/    /' "$log" | tail -n 20
        tail -n 20 "${SERVER_LOG:-/dev/null}" | sed 's/^/    server: /'
      fi
      ;;
  esac
  [[ -z ${HOLDFAST_TEST_TIMES:-} ]] || echo "    $((SECONDS - started)) s"
  [[ -z ${HOLDFAST_TEST_LOGS:-} ]] || cp "$log" "$HOLDFAST_TEST_LOGS/"
}

# run_as_ordinary_user [VAR=VALUE]: runs this test file again as nobody, from copies that nobody can
# read, and counts its results here.
run_as_ordinary_user() {
  local line copy file totals=
  copy=$(mktemp -d /tmp/hf.XXXXXX)
  mkdir "$copy/tests" "$copy/bin"
  cp -r "$HF_E2E" "$HF_TOOLS" "$copy/tests/"
  cp "$HOLDFAST_BIN/holdfast" "$HOLDFAST_BIN/holdfastd" "$copy/bin/"
  chmod -R a+rX "$copy"
  file=$(realpath --relative-to="$HF_E2E" "$0")
  while IFS= read -r line; do
    case $line in
      'ok '*) HF_PASSED=$((HF_PASSED + 1)) ;;
      'FAIL '*) HF_FAILED=$((HF_FAILED + 1)) ;;
      *' passed, '*' failed')
        totals=seen
        continue
        ;;
      *': needs root') continue ;;
    esac
    echo "$line${line:+ (ordinary user)}"
  done < <(cd / && setpriv --reuid 65534 --regid 65534 --clear-groups \
    env HOLDFAST_BIN="$copy/bin" "$@" "$copy/tests/e2e/$file" 2>&1)
  rm -rf "$copy"
  [[ -n $totals ]] || {
    HF_FAILED=$((HF_FAILED + 1))
    echo "FAIL ordinary_user: did not come to its end"
  }
}

# The totals; cases that could not run here are named above and count as neither.
finish() {
  local nothing_passed=0
  # A misspelt name must not look like success.
  if [[ -n ${HOLDFAST_TEST_ONLY:-} && $HF_PASSED == 0 ]]; then
    nothing_passed=1
    echo "of what HOLDFAST_TEST_ONLY='$HOLDFAST_TEST_ONLY' names, nothing passed"
  fi
  [[ $HF_SKIPPED == 0 ]] || echo "$HF_SKIPPED skipped"
  echo "$HF_PASSED passed, $HF_FAILED failed"
  [[ $HF_FAILED == 0 && $nothing_passed == 0 ]]
  exit
}
