#!/usr/bin/env python3
"""Damages blobs of a repository directory (docs/format.md, section 1), one at a time.

    damage.py list REPOSITORY KIND [--sample N] [--seed S]     prints "BLOB DAMAGE" lines
    damage.py apply REPOSITORY BLOB DAMAGE                     does it; status 3 if it would change nothing

KIND: format, slots, ring, data-pack, tree-pack, index, snapshot, log. With --sample, N damages in
which every way to damage and every blob come up as evenly as N allows.
"""

import argparse
import os
import random
import re
import sys

KINDS = {
    "format": r"format/", "slots": r"keys/slots-", "ring": r"keys/ring-", "data-pack": r"packs/d/", "tree-pack": r"packs/t/",
    "index": r"index/", "snapshot": r"snapshots/", "log": r"log/",
}


def blobs(repository, kind):
    found = []
    for directory, _, names in os.walk(repository):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), repository)
            if re.match(KINDS[kind], path):
                found.append(path)
    return sorted(found)


def damages(size, others, rng):
    """All ways to damage a blob of this size; offsets from the end are negative."""
    spots = {0, 5, 9, 40, size // 3, size // 2, size - 70, size - 33, size - 1} | {rng.randrange(size) for _ in range(3)}
    ways = ["flip:%d" % at for at in sorted(spots) if 0 <= at < size]
    ways += ["truncate:%d" % n for n in sorted({0, 10, size // 2, size - 1}) if 0 <= n < size]
    if size > 8192:
        ways.append("zero:%d" % (size // 2 // 4096 * 4096))
    ways += ["delete", "append"]
    if others:
        ways.append("swap:" + rng.choice(others))
    return ways


def list_damages(options):
    rng = random.Random("%s %s" % (options.seed, options.kind))
    found = blobs(options.repository, options.kind)
    pairs = []
    for blob in found:
        # Copies of one blob are the same; to swap them would change nothing.
        content = open(os.path.join(options.repository, blob), "rb").read()
        others = [b for b in found if b != blob and open(os.path.join(options.repository, b), "rb").read() != content]
        pairs += [(blob, way) for way in damages(len(content), others, rng)]
    if options.sample is not None and options.sample < len(pairs):
        # Kinds of damage in turn, each time on the blob used least.
        rng.shuffle(pairs)
        chosen, blob_uses, way_uses = [], {}, {}
        while len(chosen) < options.sample:
            pairs.sort(key=lambda p: (way_uses.get(p[1].split(":")[0], 0), blob_uses.get(p[0], 0)))
            pair = pairs.pop(0)
            chosen.append(pair)
            blob_uses[pair[0]] = blob_uses.get(pair[0], 0) + 1
            way = pair[1].split(":")[0]
            # There are many places to flip a byte at.
            way_uses[way] = way_uses.get(way, 0) + (1 / 3 if way == "flip" else 1)
        pairs = chosen
    for blob, way in pairs:
        print(blob, way)


def apply(options):
    path = os.path.join(options.repository, options.blob)
    way, _, argument = options.damage.partition(":")
    before = open(path, "rb").read()
    data = bytearray(before)
    if way == "delete":
        os.unlink(path)
        return 0
    if way == "flip":
        data[int(argument)] ^= 0x41
    elif way == "truncate":
        del data[int(argument):]
    elif way == "zero":
        at = int(argument)
        data[at:at + 4096] = bytes(len(data[at:at + 4096]))
    elif way == "append":
        data += b"appended"
    elif way == "swap":
        other = os.path.join(options.repository, argument)
        data = bytearray(open(other, "rb").read())
        write(other, before)
    else:
        sys.exit("damage.py: no damage '%s'" % way)
    if data == before:
        return 3
    write(path, data)
    return 0


def write(path, data):
    os.chmod(path, 0o600)
    with open(path, "wb") as out:
        out.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list")
    listing.add_argument("repository")
    listing.add_argument("kind", choices=KINDS)
    listing.add_argument("--sample", type=int)
    listing.add_argument("--seed", default="0")
    applying = commands.add_parser("apply")
    applying.add_argument("repository")
    applying.add_argument("blob")
    applying.add_argument("damage")
    options = parser.parse_args()
    sys.exit(list_damages(options) if options.command == "list" else apply(options))


if __name__ == "__main__":
    main()
