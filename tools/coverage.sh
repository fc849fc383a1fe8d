#!/usr/bin/env bash
# Line coverage by unit tests alone, by folder: builds them with gcov's counters, runs them, and prints a table.
#
#   tools/coverage.sh                           every folder with production code
#   tools/coverage.sh //client/... //core/io    only what these tests reach
#   tools/coverage.sh --uncovered [FOLDER...]   also the lines that no test ran, file by file
#
# Ends with status 1 when a test fails, or a folder of $FLOORS is below its floor. The build has a folder of its own
# and takes some minutes the first time.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# Folders that decide what is stored, restored or allowed, with the least share of their lines that unit tests run.
readonly FLOORS="client/backup=85 client/upload=85 client/restore=85
  server/repository=85 server/grpc=85 server/daemon=85"

options=()
targets=()
for arg in "$@"; do
  case "$arg" in
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    --uncovered) options+=("$arg") ;;
    -*)
      echo "coverage.sh: unknown argument '$arg'" >&2
      exit 2
      ;;
    *) targets+=("$arg") ;;
  esac
done
# Only a run of everything can say that a folder is below its floor.
[[ ${#targets[@]} == 0 ]] && { targets=(//...); options+=(--floors "$FLOORS"); }

bin=$(bazel info --config=coverage bazel-bin 2>/dev/null) || exit 1
# Counters of earlier runs would be added to.
find "$bin" -name '*.gcda' -delete 2>/dev/null
# Bazel compiles in /proc/self/cwd, which is another folder when the program runs.
bazel test --config=coverage --keep_going --test_tag_filters=-long --build_tests_only \
  --test_env=GCOV_PREFIX="${bin%/bazel-out/*}" --test_env=GCOV_PREFIX_STRIP=3 "${targets[@]}" || exit 1
# A library that no test links has no counters, and still counts.
bazel build --config=coverage --keep_going "${targets[@]}" || exit 1
sources=$(mktemp)
trap 'rm -f "$sources"' EXIT
code="attr(testonly, 0, kind('cc_(library|binary)', //core/... + //storage/... + //server/... + //client/...))"
bazel query --noshow_progress "labels(srcs, $code) + labels(hdrs, $code)" 2>/dev/null >"$sources" || exit 1
python3 tools/coverage_report.py "$bin" "$sources" "${options[@]}"
