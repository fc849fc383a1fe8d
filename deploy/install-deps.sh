#!/usr/bin/env bash
# Installs everything needed to build and test Holdfast on Debian 12.
#
#   deploy/install-deps.sh            build and test
#   deploy/install-deps.sh --bench    also the tools that benchmarks compare with
#   deploy/install-deps.sh --dev      also clang, clang-tidy, clang-format and ctags
#
# Idempotent and non-interactive: a second run finds everything in place and returns at once.
# Needs root, or sudo. Uses only the package sources the machine is already configured with.
set -euo pipefail

# WORKSPACE names this folder (Bazel cannot read an environment variable there), so it is fixed.
readonly DEPS_DIR=/usr/local/share/holdfast-deps

readonly BUILD_PACKAGES=(
  # Bazel and the rule sets its default workspace expects.
  bazel-bootstrap bazel-platforms bazel-skylib bazel-rules-java bazel-rules-proto
  g++ pkg-config git python3 ca-certificates
  # RPC.
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler libabsl-dev
  # Storage, compression, cryptography.
  librocksdb-dev libzstd-dev libargon2-dev libssl-dev
  # Program frame: HTTP, flags, configuration, JSON, metrics.
  libcpp-httplib-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev
  prometheus-cpp-dev
  # Tests.
  libgtest-dev libgmock-dev libbenchmark-dev
  # File system tools that end-to-end tests drive.
  attr acl e2fsprogs openssl
)
readonly BENCH_PACKAGES=(restic borgbackup time)
readonly DEV_PACKAGES=(clang-16 clang-tidy-16 clang-format-16 libclang-rt-16-dev universal-ctags)

want_bench=0
want_dev=0
for arg in "$@"; do
  case "$arg" in
    --bench) want_bench=1 ;;
    --dev) want_dev=1 ;;
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "install-deps.sh: unknown argument '$arg'" >&2
      exit 2
      ;;
  esac
done

packages=("${BUILD_PACKAGES[@]}")
[[ $want_bench == 1 ]] && packages+=("${BENCH_PACKAGES[@]}")
[[ $want_dev == 1 ]] && packages+=("${DEV_PACKAGES[@]}")

as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

lists_updated=0
update_lists_once() {
  [[ $lists_updated == 1 ]] && return
  as_root apt-get update -qq
  lists_updated=1
}

install_packages() {
  local missing=() name
  for name in "${packages[@]}"; do
    is_installed "$name" || missing+=("$name")
  done
  [[ ${#missing[@]} == 0 ]] && return
  update_lists_once
  echo "install-deps.sh: installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
}

# Writes the machine's own Debian package sources as source-package entries to the file $1.
# Other vendors' entries are left out by their suite: they have no Debian source packages.
write_source_entries() {
  python3 - "$1" <<'PYTHON'
import glob, os, re, sys

codename = None
for line in open("/etc/os-release"):
    if line.startswith("VERSION_CODENAME="):
        codename = line.split("=", 1)[1].strip().strip('"')

def is_debian(suite):
    return re.match(r"%s($|[-/])" % re.escape(codename), suite) is not None

stanzas = []
for path in sorted(glob.glob("/etc/apt/sources.list.d/*.sources")):
    text = "\n".join(l for l in open(path).read().splitlines() if not l.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        suites = re.search(r"^Suites:(.*)$", stanza, re.M | re.I)
        if suites and all(is_debian(s) for s in suites.group(1).split()):
            stanza = re.sub(r"^Types:.*$", "Types: deb-src", stanza.strip(), flags=re.M | re.I)
            stanzas.append(re.sub(r"^Architectures:.*\n?", "", stanza, flags=re.M | re.I))

one_line = re.compile(r"^deb(?:-src)?\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$")
lists = ["/etc/apt/sources.list"] + sorted(glob.glob("/etc/apt/sources.list.d/*.list"))
seen = set()
for path in filter(os.path.exists, lists):
    for line in open(path):
        match = one_line.match(line.split("#")[0].strip())
        if not match or not is_debian(match.group(3)):
            continue
        options, uri, suite, components = match.groups()
        if (uri, suite) in seen:
            continue
        seen.add((uri, suite))
        stanza = "Types: deb-src\nURIs: %s\nSuites: %s\nComponents: %s" % (uri, suite, components)
        signed_by = re.search(r"signed-by=(\S+)", options or "", re.I)
        trusted = re.search(r"trusted=(\S+)", options or "", re.I)
        if signed_by:
            stanza += "\nSigned-By: " + signed_by.group(1)
        if trusted:
            stanza += "\nTrusted: " + trusted.group(1)
        stanzas.append(stanza)

if not stanzas:
    sys.exit("install-deps.sh: found no Debian package source on this machine")
open(sys.argv[1], "w").write("\n\n".join(stanzas) + "\n")
PYTHON
}

# BoringSSL and BLAKE3 are built from source: Debian's shared BoringSSL exports the same symbol
# names as OpenSSL 3 and crashes in one process with it; the C BLAKE3 is in no library package,
# only beside the Rust one. That package is unpacked, not installed: it would bring in Rust.
fetch_sources() {
  [[ -f $DEPS_DIR/boringssl/WORKSPACE && -f $DEPS_DIR/blake3/WORKSPACE ]] && return
  scratch=$(mktemp -d)
  trap 'as_root rm -rf "$scratch"' EXIT
  chmod 0755 "$scratch"
  mkdir -p "$scratch/etc" "$scratch/lists/partial" "$scratch/download"
  if [[ ! -f $DEPS_DIR/boringssl/WORKSPACE ]]; then
    echo "install-deps.sh: fetching the source of BoringSSL"
    fetch_boringssl
  fi
  if [[ ! -f $DEPS_DIR/blake3/WORKSPACE ]]; then
    echo "install-deps.sh: fetching the source of BLAKE3"
    fetch_blake3
  fi
}

fetch_boringssl() {
  write_source_entries "$scratch/etc/debian.sources"
  # A private list folder: the machine's own apt configuration stays as it is.
  local apt=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$scratch/etc"
    -o "Dir::State::lists=$scratch/lists" -o "APT::Sandbox::User=root")
  as_root apt-get "${apt[@]}" update
  (
    cd "$scratch/download"
    as_root apt-get "${apt[@]}" --only-source --download-only source \
      android-platform-external-boringssl
  )
  local tarball
  tarball=$(find "$scratch/download" -name '*boringssl*.orig.tar.*' ! -name '*.asc' | head -n 1)
  mkdir "$scratch/boringssl"
  tar -xf "$tarball" -C "$scratch/boringssl" --strip-components=1
  install_tree boringssl "$scratch/boringssl"
}

fetch_blake3() {
  update_lists_once
  (
    cd "$scratch/download"
    as_root apt-get -qq -o "APT::Sandbox::User=root" download librust-blake3-dev
  )
  dpkg-deb -x "$scratch"/download/librust-blake3-dev_*.deb "$scratch/blake3-package"
  mkdir "$scratch/blake3"
  cp -r "$scratch"/blake3-package/usr/share/cargo/registry/blake3-*/c/. "$scratch/blake3/"
  install_tree blake3 "$scratch/blake3"
}

# install_tree <name> <folder>: moves a tree into place in one step, so that an interrupted run
# leaves nothing half done. A Bazel repository needs a WORKSPACE file. Its BUILD files go away,
# because ours (third_party/<name>/) describe the tree and a nested one would hide files from them.
install_tree() {
  local name=$1 tree=$2
  find "$tree" \( -name BUILD -o -name BUILD.bazel -o -name WORKSPACE \) -delete
  echo "workspace(name = \"$name\")" >"$tree/WORKSPACE"
  as_root mkdir -p "$DEPS_DIR"
  as_root rm -rf "$DEPS_DIR/$name" "$DEPS_DIR/.$name.new"
  as_root cp -r "$tree" "$DEPS_DIR/.$name.new"
  as_root chmod -R a+rX "$DEPS_DIR/.$name.new"
  as_root mv "$DEPS_DIR/.$name.new" "$DEPS_DIR/$name"
}

install_packages
fetch_sources
