#!/usr/bin/env bash
# What earlier versions wrote is read: every folder tests/compat/v* holds a server's data and a client's files as that
# version left them. Its repositories must open, verify and restore, and take further snapshots.
#
#   compat.sh                  the test
#   compat.sh --record DIR     writes such a folder with the present programs, when a new version of the format begins;
#                              never for an old one
source "$(dirname "$0")/lib.sh"
PASSWORD='golden password'
REPOSITORIES='default chacha'
COMPAT=$(dirname "$HF_TOOLS")/compat

# The source: the same tree, to the nanosecond, wherever it is made. Second argument: the state, 1 or 2.
make_golden_tree() {
  local root=$1
  mkdir -p "$root/docs/deep" "$root/empty" "$root/many"
  printf 'tiny' >"$root/tiny"
  : >"$root/zero"
  seq 1 20000 >"$root/docs/bundled"
  seq 1 900 >"$root/docs/deep/also bundled"
  seq 1 30000 >"$root/docs/one chunk"
  # Several chunks, and more than 64 of them: a content list.
  local i
  for i in {1..60}; do seq 1 20000; done >"$root/docs/some chunks"
  head -c 285212671 /dev/zero >"$root/docs/content list"
  truncate -s 5M "$root/sparse"
  printf 'end' >>"$root/sparse"
  for i in {1..40}; do echo "$i" >"$root/many/$i"; done
  printf 'odd' >"$root/$(printf 'odd \n name \377')"
  ln "$root/docs/bundled" "$root/docs/bundled again"
  ln -s ../docs/bundled "$root/docs/deep/link"
  mkfifo "$root/fifo"
  setfattr -n user.golden -v 'a value' "$root/docs/bundled"
  setfattr -n user.large -v "$(seq 1 400)" "$root/docs/deep"
  chmod 0640 "$root/docs/one chunk"
  chmod 1775 "$root/empty"
  if [[ $2 == 2 ]]; then
    mv "$root/docs/deep" "$root/renamed"
    seq 1 19999 >"$root/docs/bundled"
    rm "$root/many/7"
  fi
  find "$root" -depth -exec touch -h -d '2001-02-03 04:05:06.123456789 UTC' {} +
}

# --- Recording ------------------------------------------------------------------------------------

record() {
  local out=$1 name state
  set -e
  umask 022
  server_start
  for name in $REPOSITORIES; do
    local flags=()
    [[ $name == chacha ]] && flags=(--encryption chacha20-poly1305 --padding)
    expect 0 repository create "$name" --recovery-key "${flags[@]}"
    grep -a -o -E '([0-9A-HJKMNP-TV-Z]{4}-){8}[0-9A-HJKMNP-TV-Z]{4}' "$WORK/out" >"$WORK/recovery-key.$name"
    expect 0 repository unlock "$name"
    for state in 1 2; do
      remove "$WORK/source"
      make_golden_tree "$WORK/source" "$state"
      snapshot "$WORK/source" --repository "$name" --source golden
    done
    # A stub in the log.
    remove "$WORK/source/docs"
    snapshot "$WORK/source" --repository "$name" --source golden
    expect 0 snapshot delete "$ID" --repository "$name"
  done
  server_stop
  mkdir "$out"
  find "$SERVER_HOME/data" -type d -name index -exec rm -rf {} +
  cp "$WORK"/recovery-key.* "$out/"
  tar --create --file "$out/home.tar" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
    --directory "$SERVER_HOME" data config
}

# --- The test -------------------------------------------------------------------------------------

case_opens() {
  tar --extract --file "$COMPAT/$1/home.tar" --directory "$SERVER_HOME" --no-same-owner
  chmod -R go= "$SERVER_HOME"
  server_start
  local name
  for name in $REPOSITORIES; do
    expect 0 repository status "$name" --json
    [[ $(json "$WORK/out" 'd["snapshots"]') == 2 ]] || fail "$name: not two snapshots"
    expect 0 verify --repository "$name"
  done
  expect 0 repository status chacha --json
  [[ $(json "$WORK/out" '(d["encryption"], d["padding"])') == "('chacha20-poly1305', True)" ]] ||
    fail "chacha: $(head -c 300 "$WORK/out")"
}

case_restores_what_was_backed_up() {
  local name ids state
  for name in $REPOSITORIES; do
    mapfile -t ids < <(snapshot_ids --repository "$name")
    for state in 1 2; do
      remove "$WORK/source"
      make_golden_tree "$WORK/source" "$state"
      restore "${ids[state - 1]}" "$WORK/restored" --repository "$name" --no-owner
      expect_equal "$WORK/source" "$WORK/restored" --ignore-owner
    done
  done
}

case_recovery_key_and_remembered_keys_open_it() {
  local name
  for name in $REPOSITORIES; do
    HOLDFAST_PASSWORD=wrong expect 0 ls latest --source golden --repository "$name"
    expect 0 repository lock "$name"
    HOLDFAST_PASSWORD=wrong expect 2 ls latest --source golden --repository "$name"
    HOLDFAST_PASSWORD=$(<"$COMPAT/$1/recovery-key.$name") expect 0 ls latest --source golden --repository "$name"
  done
}

case_goes_on_from_there() {
  local name
  for name in $REPOSITORIES; do
    remove "$WORK/source"
    make_golden_tree "$WORK/source" 2
    echo new >"$WORK/source/new"
    snapshot "$WORK/source" --source golden --repository "$name"
    [[ $(json "$WORK/out" 'numbers(d, "bytes_sent")[0]') -lt 100000 ]] || fail "$name: sent again: $(head -c 400 "$WORK/out")"
    restore "$ID" "$WORK/restored" --repository "$name" --no-owner
    expect_equal "$WORK/source" "$WORK/restored" --ignore-owner
  done
  server_stop
}

if [[ ${1:-} == --record ]]; then
  instance_new
  HOLDFAST_PASSWORD=$PASSWORD
  record "$(realpath -m "$2")"
  exit
fi
instance_new
HOLDFAST_PASSWORD=$PASSWORD
for version in $(cd "$COMPAT" && echo v*); do
  echo "compat.sh: $version"
  SERVER_HOME=$WORK/$version
  use_agent "$version"
  check opens "$version"
  check restores_what_was_backed_up
  check recovery_key_and_remembered_keys_open_it "$version"
  check goes_on_from_there
done
finish
