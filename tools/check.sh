#!/usr/bin/env bash
# Runs everything a change must pass; continues after a failed step and names it at the end.
#
#   tools/check.sh                     all steps
#   tools/check.sh --fast              format, layering and clang: what CI runs beside the tests
#   tools/check.sh layering tsan       these steps
#   tools/check.sh --skip=tidy         all but this step; can be repeated
#
# Steps:
#   format      clang-format would change nothing
#   layering    rules of the house: who may use whom, circles, sizes, READMEs (tools/check_layering.sh)
#   clang       builds with clang: warnings, -Wthread-safety and layering_check are errors
#   tests       unit tests, as everyday builds run them
#   sanitizers  unit tests with AddressSanitizer and UndefinedBehaviorSanitizer
#   tsan        tests tagged "threads" with ThreadSanitizer
#   tidy        clang-tidy on files that differ from $BASE (default: the commit before; "all": every file)
#
# $TARGETS limits what Bazel builds, for example TARGETS=//core/...
# Needs deploy/install-deps.sh --dev.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly ALL_STEPS=(format layering clang tests sanitizers tsan tidy)
readonly LLVM=16
read -r -a targets <<<"${TARGETS:-//...}"
readonly targets

usage() { sed -n '2,20s/^# \{0,1\}//p' "$0"; }

is_step() { [[ " ${ALL_STEPS[*]} " == *" $1 "* ]]; }

chosen=()
skipped=" "
for arg in "$@"; do
  case "$arg" in
    -h | --help)
      usage
      exit 0
      ;;
    --fast) chosen+=(format layering clang) ;;
    --skip=*)
      is_step "${arg#--skip=}" || { usage >&2; exit 2; }
      skipped+="${arg#--skip=} "
      ;;
    *)
      is_step "$arg" || { usage >&2; exit 2; }
      chosen+=("$arg")
      ;;
  esac
done
[[ ${#chosen[@]} == 0 ]] && chosen=("${ALL_STEPS[@]}")

step_format() {
  git ls-files -z '*.h' '*.cc' '*.proto' | xargs -0 -r "clang-format-$LLVM" --dry-run --Werror
}

step_layering() { tools/check_layering.sh; }

step_clang() {
  bazel build --keep_going --config=clang --config=werror --features=layering_check \
    --repo_env=CC="$PWD/tools/build/clang.sh" "${targets[@]}"
}

step_tests() { bazel test --test_tag_filters=-long "${targets[@]}"; }

step_sanitizers() {
  bazel test --config=asan_ubsan --test_tag_filters=-long,-nosan --build_tests_only \
    "${targets[@]}"
}

step_tsan() {
  local tests
  tests=$(bazel query --noshow_progress "attr(tags, '\bthreads\b', tests(${targets[*]}))") || return
  [[ -n $tests ]] || { echo "no test is tagged \"threads\""; return; }
  # The list is one label per line, without spaces.
  # shellcheck disable=SC2086
  bazel test --config=tsan \
    --test_env=TSAN_OPTIONS="suppressions=$PWD/tools/tsan_suppressions.txt:second_deadlock_stack=1" $tests
}

step_tidy() {
  local base=${BASE:-HEAD~1} files
  if [[ $base == all ]]; then
    mapfile -t files < <(git ls-files '*.cc')
  else
    mapfile -t files < <(git diff --name-only --diff-filter=d "$base" -- '*.cc')
  fi
  [[ ${#files[@]} == 0 ]] && return
  # Generated headers must exist before a file that includes them can be read.
  bazel build "${targets[@]}" || return
  local bin external
  bin=$(bazel info bazel-bin) || return
  external=$(bazel info output_base)/external || return
  "clang-tidy-$LLVM" --quiet "${files[@]}" -- -std=c++20 -UNDEBUG -iquote . -iquote "$bin" \
    -DBORINGSSL_PREFIX=hf_bssl -isystem "$external/boringssl/src/include" \
    -isystem "$bin/external/boringssl/prefixed" -isystem "$external/blake3"
}

failed=()
for step in "${chosen[@]}"; do
  [[ $skipped == *" $step "* ]] && continue
  echo "== $step"
  "step_$step" || failed+=("$step")
done

if [[ ${#failed[@]} != 0 ]]; then
  echo "check.sh: failed: ${failed[*]}"
  exit 1
fi
echo "check.sh: all good"
