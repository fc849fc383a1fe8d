#!/usr/bin/env python3
"""Looks for secrets where they must not be: in a process's memory and open files, in files.

    scan_secrets.py [--text WORD]... [--text-file F]... [--keys-from FILE]... [--hex-file F]... [--public PATH]...
                    [--pid PID]... [--in PATH]... [--report-scanned]

--text       a canary; sought as it is, as UTF-16, hexadecimal and base64
--text-file  a canary per line
--hex-file   "LABEL HEX" per line: keys, sought like the following
--keys-from  a file that holds 32-byte keys at unknown places, raw or as hexadecimal or base64: every
             16 bytes of it that look random are sought (each 32-byte key holds one such block whole)
--public     what is in these files (or below these directories) is no secret though --keys-from has it, too
--in         a file, or everything below a directory, names included
--pid        all readable memory of a process, and the files it has open, also deleted ones

Exit status 1 and a line per finding if anything was found; 2 if a place could not be searched.
"""

import argparse
import base64
import os
import re
import stat
import sys

CHUNK = 64 << 20


def encodings(secret, label):
    """(label, bytes) of every spelling that is sought."""
    yield label, secret
    yield label + " as hexadecimal", secret.hex().encode()
    yield label + " as HEXADECIMAL", secret.hex().upper().encode()
    for shift in range(3):
        # The part of the base64 text that does not depend on what stands before and after.
        encoded = base64.b64encode(b"\0" * shift + secret)
        start = 0 if shift == 0 else 4
        whole = (len(secret) + shift) // 3 * 4
        part = encoded[start:whole]
        if len(part) >= 16:
            yield label + " as base64", part
            yield label + " as base64url", part.replace(b"+", b"-").replace(b"/", b"_")


def text_patterns(word):
    label = "'%s'" % word
    yield from encodings(word.encode(), label)
    yield label + " as UTF-16", word.encode("utf-16-le")
    yield label + " reversed", word.encode()[::-1]


def looks_random(block):
    return len(set(block)) >= 11 and not all(32 <= b < 127 for b in block)


def key_blocks(data):
    """16-byte blocks, in file order, raw and of what is spelled out as text."""
    parts = [data]
    for token in re.findall(rb"[0-9a-fA-F]{32,}", data):
        parts.append(bytes.fromhex(token[:len(token) // 2 * 2].decode()))
    for token in re.findall(rb"[A-Za-z0-9+/_-]{43,}={0,2}", data):
        cleaned = token.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        try:
            parts.append(base64.b64decode(cleaned + b"=" * (-len(cleaned) % 4)))
        except ValueError:
            pass
    for part in parts:
        for start in range(0, len(part) - 15, 16):
            block = part[start:start + 16]
            if looks_random(block):
                yield start, block


def files_below(path):
    if not os.path.isdir(path):
        yield path
        return
    for directory, names, files in os.walk(path):
        for name in files:
            yield os.path.join(directory, name)


def public_bytes(paths):
    out = b""
    for path in paths:
        for name in files_below(path):
            data = open(name, "rb").read()
            out += data
            # Ids are written in hexadecimal.
            for token in re.findall(rb"[0-9a-f]{32,}", data):
                out += bytes.fromhex(token[:len(token) // 2 * 2].decode())
    return out


def common_start(words):
    """Words by their first bytes: where those are not, none of them needs to be sought."""
    groups = {}
    for word in words:
        groups.setdefault(word[:6], []).append(word)
    return groups


class Search:
    def __init__(self, words, keys):
        """`words`: texts; `keys`: (label, bytes)."""
        self.groups = []  # (patterns of which one must be there, patterns)
        for start, members in common_start(words).items():
            patterns = [p for word in members for p in text_patterns(word)]
            gates = []
            if len(members) > 2 and len(start) == 6:
                gates = [p for _, p in text_patterns(start)]
                # base64 of the start alone is too short for encodings().
                for shift in range(3):
                    encoded = base64.b64encode(b"\0" * shift + start.encode())
                    gates.append(encoded[4 if shift else 0:(6 + shift) // 3 * 4])
            self.groups.append((gates, patterns))
        self.groups.append(([], [p for label, key in keys for p in encodings(key, label)]))
        self.longest = max((len(p) for _, patterns in self.groups for _, p in patterns), default=1)
        self.findings = []
        self.failures = []
        self.scanned = 0

    def data(self, data, where, offset=0):
        self.scanned += len(data)
        for gates, patterns in self.groups:
            if gates and not any(gate in data for gate in gates):
                continue
            for label, pattern in patterns:
                at = data.find(pattern)
                if at >= 0:
                    self.findings.append("%s found in %s at %d" % (label, where, offset + at))

    def stream(self, read, where, offset=0):
        """`read(n)` until it returns nothing; what spans two reads is seen, too."""
        tail = b""
        while True:
            block = read(CHUNK)
            if not block:
                return
            self.data(tail + block, where, offset - len(tail))
            offset += len(block)
            tail = block[-(self.longest - 1):] if self.longest > 1 else b""

    def tree(self, path):
        if not os.path.lexists(path):
            self.failures.append("%s: no such file" % path)
            return
        for directory, names, files in os.walk(path) if os.path.isdir(path) else [("", [], [path])]:
            for name in names + files:
                full = os.path.join(directory, name)
                self.data(os.fsencode(full), "the name " + full)
                mode = os.lstat(full).st_mode
                if stat.S_ISREG(mode):
                    with open(full, "rb") as file:
                        self.stream(file.read, full)
                    for key in os.listxattr(full):
                        self.data(os.fsencode(key) + b"=" + os.getxattr(full, key), "an xattr of " + full)
                elif stat.S_ISLNK(mode):
                    self.data(os.fsencode(os.readlink(full)), "the target of " + full)

    def process(self, pid):
        seen = 0
        with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", buffering=0) as memory:
            for line in maps:
                fields = line.split(None, 5)
                if "r" not in fields[1]:
                    continue
                name = fields[5].strip() if len(fields) > 5 else "anonymous memory"
                if name in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                    continue
                # Program text is not data of this run.
                if "w" not in fields[1] and name.startswith("/"):
                    continue
                start, end = (int(x, 16) for x in fields[0].split("-"))
                position = [start]

                def read(n):
                    n = min(n, end - position[0])
                    if n <= 0:
                        return b""
                    memory.seek(position[0])
                    try:
                        block = memory.read(n)
                    except OSError:
                        return b""
                    position[0] += len(block)
                    return block

                self.stream(read, "the memory of process %d (%s)" % (pid, name), start)
                seen += position[0] - start
        if seen == 0:
            self.failures.append("process %d: no memory could be read" % pid)
        for which in ("environ", "cmdline"):
            with open("/proc/%d/%s" % (pid, which), "rb") as file:
                self.data(file.read(), "%s of process %d" % (which, pid))
        for fd in os.listdir("/proc/%d/fd" % pid):
            path = "/proc/%d/fd/%s" % (pid, fd)
            try:
                if stat.S_ISREG(os.stat(path).st_mode):
                    with open(path, "rb") as file:
                        self.stream(file.read, "open file " + os.readlink(path))
            except OSError:
                pass  # closed meanwhile


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for flag in ("--text", "--text-file", "--keys-from", "--hex-file", "--public", "--in"):
        parser.add_argument(flag, action="append", default=[])
    parser.add_argument("--pid", action="append", type=int, default=[])
    parser.add_argument("--report-scanned", action="store_true")
    options = parser.parse_args()

    words = list(options.text)
    for name in options.text_file:
        words += [line.rstrip("\n") for line in open(name) if line.strip()]
    public = public_bytes(options.public)
    keys = []
    for name in options.keys_from:
        for start, block in key_blocks(open(name, "rb").read()):
            if block in public:
                continue
            keys.append(("bytes %d to %d of %s" % (start, start + 16, os.path.basename(name)), block))
    for name in options.hex_file:
        for line in open(name):
            label, value = line.rsplit(None, 1)
            keys.append((label, bytes.fromhex(value)))
    if not words and not keys:
        sys.exit("scan_secrets.py: nothing to look for")

    search = Search(words, keys)
    for path in getattr(options, "in"):
        search.tree(path)
    for pid in options.pid:
        search.process(pid)
    for line in search.findings[:50] + search.failures:
        print(line)
    if options.report_scanned:
        print("scan_secrets.py: %d words, %d keys, %d bytes searched" % (len(words), len(keys), search.scanned), file=sys.stderr)
    sys.exit(2 if search.failures else 1 if search.findings else 0)


if __name__ == "__main__":
    main()
