#!/usr/bin/env bash
# All of /usr, as root and as an ordinary user: restored equal; nothing changed sends next to nothing.
# HOLDFAST_TEST_TREE: another directory.
export HOLDFAST_TEST_PATIENCE=${HOLDFAST_TEST_PATIENCE:-4}
source "$(dirname "$0")/../lib.sh"
instance_new
SOURCE=${HOLDFAST_TEST_TREE:-/usr}

case_setup() {
  server_start
  expect 0 repository create
}

case_restored_equal() {
  # What an ordinary user may not read is named, and left out of the comparison.
  expect '0|1' snapshot create --json "$SOURCE"
  ID=$(json "$WORK/out" 'ids(d)[-1]')
  local status=$RC path skip=()
  if [[ $(id -u) == 0 ]]; then
    [[ $status == 0 ]] || fail "exit $status as root: $(tail -n 2 "$WORK/err")"
  else
    while IFS= read -r path; do
      grep -a -q -F -e "${path##*/}" "$WORK/err" || fail "unreadable, and not named: $path"
      skip+=(--skip "${path#"$SOURCE"/}")
    done < <(find "$SOURCE" ! -type l ! -readable -prune 2>/dev/null)
    [[ ${#skip[@]} == 0 || $status == 1 ]] || fail "exit $status with ${#skip[@]} unreadable files"
  fi
  expect '0|1' restore "$ID" --target "$WORK/back"
  [[ $RC == 0 || $status == 1 ]] || fail "restore: exit $RC: $(tail -n 2 "$WORK/err")"
  expect_equal "$SOURCE" "$WORK/back" "${skip[@]}"
  remove "$WORK/back"
}

case_again_sends_next_to_nothing() {
  proxy_start
  expect '0|1' snapshot create "$SOURCE"
  proxy_stop
  (($(bytes_up) < 3000000)) || fail "$(bytes_up) bytes for an unchanged tree"
}

case_verify() { expect 0 verify; }

check setup
check restored_equal
check again_sends_next_to_nothing
check verify
server_stop
remove "$WORK/here"
[[ $(id -u) != 0 ]] || run_as_ordinary_user HOLDFAST_TEST_TREE="$SOURCE"
finish
