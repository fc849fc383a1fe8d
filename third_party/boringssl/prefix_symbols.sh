#!/usr/bin/env bash
# prefix_symbols.sh <prefix> <archive out> <header out> <archive in>...
#
# Gives every global symbol that the archive defines the name <prefix>_<name>, in definitions and
# references alike, and writes the header that does the same for the code that calls it.
set -euo pipefail

prefix=$1 archive_out=$2 header_out=$3
shift 3
# With several flavours of the same library, the position-independent one serves all uses.
archive_in=$1
for candidate in "$@"; do
  [[ $candidate == *.pic.a ]] && archive_in=$candidate
done

symbols=$(mktemp)
trap 'rm -f "$symbols"' EXIT
# Compiler-made names (with a dot or a double underscore in front) are nobody's interface.
nm --defined-only --extern-only --format=posix "$archive_in" |
  awk 'NF >= 2 && $1 !~ /:$/ && $1 !~ /^__/ && $1 !~ /\./ { print $1 }' | sort -u >"$symbols"
if [[ ! -s $symbols ]]; then
  echo "prefix_symbols.sh: $archive_in defines no symbols" >&2
  exit 1
fi

objcopy --redefine-syms=<(awk -v p="$prefix" '{ print $1, p "_" $1 }' "$symbols") \
  "$archive_in" "$archive_out"
{
  echo "// Generated from the symbols of the library. Do not edit."
  echo "#pragma once"
  awk -v p="$prefix" '{ print "#define", $1, p "_" $1 }' "$symbols"
} >"$header_out"
