#!/usr/bin/env bash
# Runs the tests. The last line of the output is "N passed, M failed"; fails if M is not 0.
#
#   tests/run.sh           unit tests, tests/tools/*_test.py, then tests/e2e/*.sh
#   tests/run.sh --full    also tests tagged "long", tests/e2e/long/*.sh, and the unit tests again
#                          with AddressSanitizer and UndefinedBehaviorSanitizer
#
# An end-to-end script is one test, unless its own last line is "N passed, M failed". It finds the
# programs in the folder $HOLDFAST_BIN.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

full=0
for arg in "$@"; do
  case "$arg" in
    --full) full=1 ;;
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "run.sh: unknown argument '$arg'" >&2
      exit 2
      ;;
  esac
done

passed=0
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

finish() {
  echo "$passed passed, $failed failed"
  [[ $failed == 0 ]]
  exit
}

# fail <what>: counts one failure that is not a test case.
fail() {
  echo "FAILED: $1" >&2
  failed=$((failed + 1))
}

# add_totals <line>: adds a line "N passed, M failed"; false if it is something else.
add_totals() {
  [[ $1 =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]] || return 1
  passed=$((passed + BASH_REMATCH[1]))
  failed=$((failed + BASH_REMATCH[2]))
}

# unit_tests <title> <bazel flag>...
unit_tests() {
  local title=$1 status=0 totals
  shift
  echo "== $title"
  bazel test --keep_going --color=no --show_progress_rate_limit=30 \
    --build_event_json_file="$scratch/events.json" "$@" //... || status=$?
  totals=$(python3 tests/count_bazel_tests.py "$scratch/events.json") || totals=""
  echo "$title: ${totals:-no totals}"
  local failed_before=$failed
  add_totals "$totals" || fail "$title: cannot count the tests"
  # Something went wrong that no test case shows: a build error outside of tests, for example.
  if [[ $status != 0 && $failed == "$failed_before" ]]; then
    fail "$title: bazel ended with status $status"
  fi
}

# The tools that end-to-end tests judge with: unittest programs.
tool_tests() {
  local script status
  for script in tests/tools/*_test.py; do
    echo "== $script"
    status=0
    PYTHONDONTWRITEBYTECODE=1 python3 "$script" >"$scratch/tool.log" 2>&1 || status=$?
    if [[ $status == 0 && $(grep '^Ran ' "$scratch/tool.log") =~ ^Ran\ ([1-9][0-9]*)\ test ]]; then
      echo "${BASH_REMATCH[0]}s"
      passed=$((passed + BASH_REMATCH[1]))
    else
      cat "$scratch/tool.log"
      fail "$script ended with status $status"
    fi
  done
}

# end_to_end <script>...
end_to_end() {
  local script status
  for script in "$@"; do
    echo "== $script"
    status=0
    "$script" >"$scratch/e2e.log" 2>&1 || status=$?
    local failed_before=$failed
    if add_totals "$(tail -n 1 "$scratch/e2e.log")"; then
      [[ $status == 0 || $failed != "$failed_before" ]] || fail "$script ended with status $status"
    elif [[ $status == 0 ]]; then
      passed=$((passed + 1))
    else
      fail "$script ended with status $status"
    fi
    if [[ $failed == "$failed_before" ]]; then
      tail -n 3 "$scratch/e2e.log"
    else
      cat "$scratch/e2e.log"
    fi
  done
}

# executable_scripts <folder>: those that run as tests; helpers are not executable.
executable_scripts() {
  [[ -d $1 ]] || return 0
  find "$1" -maxdepth 1 -name '*.sh' -type f -executable | sort
}

if ! deploy/install-deps.sh; then
  fail "deploy/install-deps.sh"
  finish
fi

filter=(--test_tag_filters=-long)
[[ $full == 1 ]] && filter=()
unit_tests "unit tests" "${filter[@]}"

tool_tests

mapfile -t scripts < <(executable_scripts tests/e2e)
if [[ $full == 1 ]]; then
  mapfile -t -O "${#scripts[@]}" scripts < <(executable_scripts tests/e2e/long)
fi
if [[ ${#scripts[@]} != 0 ]]; then
  if deploy/build.sh; then
    export HOLDFAST_BIN=$PWD/bin
    end_to_end "${scripts[@]}"
  else
    fail "deploy/build.sh"
  fi
fi

if [[ $full == 1 ]]; then
  unit_tests "unit tests with asan and ubsan" --config=asan_ubsan \
    --test_tag_filters=-long,-nosan --build_tests_only
fi

finish
