#!/usr/bin/env python3
"""Makes a directory tree that is hard to back up, and prints the seed that makes it again.

    make_tree.py DIR [--seed N] [--profile quick|full] [--big-dir N] [--only A,B] [--skip A,B]

DIR must not exist. What the user may not create (devices, other owners, trusted attributes,
capabilities) is left out, and so is what he could not read again (mode 000), unless
--unreadable asks for it. What the file system does not support is named on standard error.
"""

import argparse
import errno
import os
import random
import socket
import stat
import struct
import sys

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

NS = 1_000_000_000
# Seconds; the fraction is drawn separately. ext4 keeps 1901 to 2446.
NOTABLE_SECONDS = [0, 1, -1, -86400 * 365 * 30, -(1 << 31), (1 << 31) - 1, 1 << 31, 1 << 32,
                   7_258_118_400, 14_000_000_000, 1_000_000_000, 1_700_000_000]

SECTIONS = {}


def section(function):
    SECTIONS[function.__name__] = function
    return function


class Maker:
    """Creates entries below one directory. Directories get mode, times and xattrs at the end."""

    def __init__(self, root, rng, options):
        self.root = os.fsencode(root)
        self.rng = rng
        self.options = options
        self.is_root = os.geteuid() == 0
        self.unreadable = self.is_root or options.unreadable
        self.full = options.profile == "full"
        self.pending = []  # (path, mode, xattrs) of directories, in order of creation
        self.left_out = {}

    def path(self, *names):
        return os.path.join(self.root, *(os.fsencode(n) for n in names))

    def note_left_out(self, what, error):
        self.left_out.setdefault("%s: %s" % (what, os.strerror(error.errno)), 0)
        self.left_out["%s: %s" % (what, os.strerror(error.errno))] += 1

    def any_time(self):
        seconds = self.rng.choice(NOTABLE_SECONDS + [self.rng.randrange(1_200_000_000, 1_790_000_000)] * 8)
        fraction = self.rng.choice([0, 1, NS - 1, self.rng.randrange(NS)])
        return seconds * NS + fraction

    def set_time(self, path, dir_fd=None):
        when = self.any_time()
        try:
            os.utime(path, ns=(when, when), dir_fd=dir_fd, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError):
                self.note_left_out("time %d" % (when // NS), error)

    def content(self, size, compressible=None):
        """Random bytes, or text-like ones."""
        if compressible is None:
            compressible = self.rng.random() < 0.5
        if not compressible:
            return self.rng.randbytes(size)
        words = [self.rng.randbytes(self.rng.randrange(2, 9)).hex().encode() for _ in range(64)]
        block = b" ".join(self.rng.choice(words) for _ in range(2048))
        return (block * (size // len(block) + 1))[:size]

    def file(self, path, data=b"", mode=None):
        with open(path, "xb", buffering=0) as out:
            view = memoryview(data)
            while len(view):
                view = view[out.write(view):]
        os.chmod(path, self.rng.choice([0o644, 0o600, 0o755, 0o640]) if mode is None else mode)
        self.set_time(path)
        return path

    def directory(self, path, mode=0o755, xattrs=None):
        os.mkdir(path, 0o700)
        self.pending.append((path, mode, xattrs or {}))
        return path

    def symlink(self, target, path):
        os.symlink(target, path)
        self.set_time(path)
        return path

    def xattr(self, path, name, value, follow=False):
        try:
            os.setxattr(path, name, value, follow_symlinks=follow)
            return True
        except OSError as error:
            self.note_left_out("%s (%d bytes)" % (name.split(".")[0] + ".*", len(value)), error)
            return False

    def finish(self):
        for path, mode, xattrs in reversed(self.pending):
            for name, value in xattrs.items():
                self.xattr(path, name, value)
            if mode is not None:
                os.chmod(path, mode)
            self.set_time(path)


# --- Sections ---------------------------------------------------------------------------------


@section
def names(maker):
    base = maker.directory(maker.path("names"))
    plain = [
        b"\n", b"line\nbreak", b"trailing newline\n", b"\r\n", b"\t", b" ", b"  two  ", b"-", b"--", b"-rf", b"--help",
        b"...", b".hidden", b"..x", b"x..", b". ", b"a.b", b"a-b", b"a b", b"a\x01", b"a\x01b", b"a\x7f", b"\x01", b"\xff",
        b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x92\xbe", b"\xc3\xa9", b"e\xcc\x81", b"\xe2\x80\xae" b"txt.exe",
        b"*", b"?", b"[a]", b"[!a]", b"!negated", b"#comment", b"\\", b"back\\slash", b"\\n", b"%s%n%x", b"$(touch x)",
        b"`id`", b";ls", b"|", b"&", b">", b"'", b'"', b"\x1b[31mred\x1b[0m", b"con", b"nul:", b"a:b", b"latest:a", b"~", b"~root",
        b"=", b"@", b"{}", b"\xef\xbb\xbf" b"bom", b"null\\0", b"a" * 255, b"\xff" * 255, b"\n" * 255,
        "é".encode() * 127, "\U0001f4be".encode() * 63,
    ]
    for index, name in enumerate(plain):
        maker.file(os.path.join(base, name), b"name %d\n" % index)
    for index in range(200 if maker.full else 40):
        length = maker.rng.choice([1, 2, 3, 16, 64, 254, 255])
        name = bytes(maker.rng.choice([b for b in range(1, 256) if b != 0x2F]) for _ in range(length))
        if name in (b".", b"..") or os.path.lexists(os.path.join(base, name)):
            continue
        maker.file(os.path.join(base, name), b"random name %d\n" % index)
    # Orders that differ between "sort by path" and "sort by component".
    order = maker.directory(os.path.join(base, b"order"))
    for name in [b"a", b"ab", b"b"]:
        sub = maker.directory(os.path.join(order, name))
        for inner in [b"a", b"b", b"\x01", b"\xff"]:
            maker.file(os.path.join(sub, inner), inner)
    for name in [b"a\x01", b"a ", b"a-", b"a.", b"a0", b"a\xff"]:
        maker.file(os.path.join(order, name), name)
    for name in [b"dir\nbreak", b"dir \xff\xfe", b"-dir", b"d" * 255]:
        sub = maker.directory(os.path.join(base, name))
        maker.file(os.path.join(sub, b"in\nside"), b"inside\n")


@section
def deep(maker):
    """Paths longer than PATH_MAX: long names, and many short ones."""
    base = maker.directory(maker.path("deep"))
    for top, name, depth in [(b"long", b"n" * 240, 24), (b"short", b"s", 1500), (b"odd", b"\xff\n" * 100, 25)]:
        start = maker.directory(os.path.join(base, top))
        fd = os.open(start, os.O_RDONLY | os.O_DIRECTORY)
        for level in range(depth):
            os.mkdir(name, 0o700, dir_fd=fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
            if level % 8 == 7 or level == depth - 1:
                out = os.open(b"file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
                os.write(out, b"level %d\n" % level)
                os.close(out)
                os.symlink(b"../file", b"link", dir_fd=fd)
                maker.set_time(b"file", dir_fd=fd)
                maker.set_time(b"link", dir_fd=fd)
        os.link(b"file", b"file-again", src_dir_fd=fd, dst_dir_fd=fd)
        maker.xattr(b"/proc/self/fd/%d/file" % fd, "user.deep", b"down here")
        for level in range(depth):
            above = os.open(b"..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = above
            os.chmod(name, maker.rng.choice([0o755, 0o750, 0o700]), dir_fd=fd)
            maker.set_time(name, dir_fd=fd)
        os.close(fd)


@section
def sizes(maker):
    base = maker.directory(maker.path("sizes"))
    around = [64, 4 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, MIB, 4 * MIB]
    exact = [0, 1, 2, 100, 3 * MIB + 17] + [n + d for n in around for d in (-1, 0, 1)]
    if maker.full:
        exact += [8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 64 * MIB + 1, 200 * MIB + 13]
    for size in exact:
        maker.file(os.path.join(base, b"random-%d" % size), maker.content(size, compressible=False))
        if size <= 4 * MIB:
            maker.file(os.path.join(base, b"text-%d" % size), maker.content(size, compressible=True))
    # Real zeros are not a hole.
    maker.file(os.path.join(base, b"zeros-1048576"), bytes(MIB))
    maker.file(os.path.join(base, b"zeros-5000001"), bytes(5_000_001))
    # The same content again, whole and shifted, and with the chunker's smallest and largest chunks.
    shared = maker.content(6 * MIB, compressible=False)
    maker.file(os.path.join(base, b"shared-1"), shared)
    maker.file(os.path.join(base, b"shared-2"), shared)
    maker.file(os.path.join(base, b"shared-shifted"), b"shift" + shared)
    maker.file(os.path.join(base, b"shared-tail"), shared + b"tail")
    maker.file(os.path.join(base, b"repeated"), maker.content(4 * KIB, compressible=False) * 2000)


@section
def many_small(maker):
    base = maker.directory(maker.path("many-small"))
    for d in range(60 if maker.full else 12):
        sub = maker.directory(os.path.join(base, b"d%03d" % d))
        for f in range(maker.rng.randrange(1, 60)):
            size = maker.rng.choice([0, 1, 17, 63, 64, 65, 300, 1000, 5000, 20000, 70000])
            maker.file(os.path.join(sub, b"f%04d" % f), maker.content(size))


@section
def sparse(maker):
    base = maker.directory(maker.path("sparse"))

    def make(name, size, extents):
        path = os.path.join(base, name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.ftruncate(fd, size)
        for offset, data in extents:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:done + 8 * MIB], offset + done)
        os.close(fd)
        maker.set_time(path)

    def some(size):
        return maker.content(size, compressible=False)

    make(b"hole-at-start", 3 * MIB, [(2 * MIB, some(MIB))])
    make(b"hole-in-middle", 6 * MIB, [(0, some(MIB)), (5 * MIB, some(MIB))])
    make(b"hole-at-end", 4 * MIB + 123, [(0, some(MIB + 5))])
    make(b"holes-both-ends", 9 * MIB, [(4 * MIB, some(64 * KIB))])
    make(b"all-hole-64k", 64 * KIB, [])
    make(b"all-hole-5m", 5 * MIB + 1, [])
    make(b"hole-64k", 192 * KIB, [(0, some(64 * KIB)), (128 * KIB, some(64 * KIB))])
    make(b"hole-unaligned", 2 * MIB, [(0, some(1000)), (MIB + 333, some(777))])
    make(b"zeros-beside-hole", 4 * MIB, [(0, bytes(MIB)), (2 * MIB, bytes(MIB))])
    make(b"small-hole-60k", 100 * KIB, [(0, some(20 * KIB)), (80 * KIB, some(20 * KIB))])
    tiny = 70_000 if maker.full else 2000
    make(b"many-tiny-holes", tiny * 8 * KIB, [(i * 8 * KIB, some(4 * KIB)) for i in range(tiny)])
    huge = 10 * GIB
    make(b"huge", huge + 7, [(0, some(100)), (5 * GIB, some(3 * MIB)), (huge, b"the end")])


@section
def links(maker):
    base = maker.directory(maker.path("links"))
    one = maker.directory(os.path.join(base, b"one"))
    two = maker.directory(os.path.join(base, b"two"))

    def also(source, *names):
        for name in names:
            os.link(source, name, follow_symlinks=False)

    small = maker.file(os.path.join(one, b"small"), b"linked small\n")
    also(small, os.path.join(one, b"a-small"), os.path.join(two, b"small"), os.path.join(base, b"zz-small"))
    large = maker.file(os.path.join(two, b"large"), maker.content(2 * MIB + 3, compressible=False))
    also(large, os.path.join(one, b"large"))
    also(maker.file(os.path.join(base, b"empty"), b""), os.path.join(base, b"empty-again"))
    also(maker.symlink(b"small", os.path.join(one, b"link")), os.path.join(two, b"link"))
    fifo = os.path.join(one, b"fifo")
    os.mkfifo(fifo, 0o620)
    maker.set_time(fifo)
    also(fifo, os.path.join(two, b"fifo"))
    # Equal content and metadata, but not linked.
    for name in (b"twin-1", b"twin-2"):
        path = maker.file(os.path.join(base, name), b"twins\n", 0o644)
        os.utime(path, ns=(NS, NS))
    many = maker.file(os.path.join(base, b"many"), b"many names\n")
    for index in range(500 if maker.full else 50):
        also(many, os.path.join(base, b"many-%03d" % index))


@section
def symlinks(maker):
    base = maker.directory(maker.path("symlinks"))
    maker.file(os.path.join(base, b"target"), b"target\n")
    maker.directory(os.path.join(base, b"dir"))
    for name, target in [
        (b"plain", b"target"), (b"dangling", b"no such file"), (b"absolute", b"/etc/passwd"), (b"absolute-dir", b"/"),
        (b"self", b"self"), (b"loop-1", b"loop-2"), (b"loop-2", b"loop-1"), (b"up", b"../../../../../../../../etc"), (b"parent", b".."),
        (b"to-dir", b"dir"), (b"to-dir-slash", b"dir/"), (b"long", b"t" * 4095), (b"long-path", (b"d/" * 2047) + b"x"),
        (b"59", b"s" * 59), (b"60", b"s" * 60), (b"not-utf8", b"\xff\xfe/\x80"), (b"newline", b"a\nb\n"), (b"dash", b"-rf"), (b"dot", b"."),
    ]:
        try:
            maker.symlink(target, os.path.join(base, name))
        except OSError as error:
            maker.note_left_out("symlink to %d bytes" % len(target), error)


@section
def special(maker):
    base = maker.directory(maker.path("special"))
    for name, mode in [(b"fifo", 0o644), (b"fifo-600", 0o600), (b"fifo\nname", 0o666)]:
        path = os.path.join(base, name)
        os.mkfifo(path)
        os.chmod(path, mode)
        maker.set_time(path)
    bound = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(base)  # the name of a socket has 107 bytes at most
    bound.bind("socket")
    os.chdir(here)
    bound.close()
    maker.set_time(os.path.join(base, b"socket"))
    os.mknod(os.path.join(base, b"socket-again"), stat.S_IFSOCK | 0o600)
    maker.set_time(os.path.join(base, b"socket-again"))
    if not maker.is_root:
        return
    for name, kind, major, minor in [
        (b"null", stat.S_IFCHR, 1, 3), (b"zero-zero", stat.S_IFCHR, 0, 0), (b"large", stat.S_IFCHR, 4095, 1048575),
        (b"block", stat.S_IFBLK, 7, 200), (b"block-large", stat.S_IFBLK, 259, 70000),
    ]:
        path = os.path.join(base, name)
        try:
            os.mknod(path, kind | 0o640, os.makedev(major, minor))
        except OSError as error:
            maker.note_left_out("device", error)
            continue
        maker.set_time(path)
    if os.path.lexists(os.path.join(base, b"null")):
        os.link(os.path.join(base, b"null"), os.path.join(base, b"null-again"), follow_symlinks=False)


@section
def modes(maker):
    base = maker.directory(maker.path("modes"))
    for mode in [0o400, 0o444, 0o600, 0o700, 0o755, 0o777, 0o4755, 0o2755, 0o6755, 0o1644, 0o7777, 0o4400, 0o6500]:
        maker.file(os.path.join(base, b"file-%04o" % mode), b"mode %o\n" % mode, mode)
    for mode in [0o500, 0o555, 0o700, 0o755, 0o1777, 0o2775, 0o3777, 0o7755]:
        sub = maker.directory(os.path.join(base, b"dir-%04o" % mode), mode)
        maker.file(os.path.join(sub, b"inside"), b"inside %o\n" % mode)
        maker.file(os.path.join(maker.directory(os.path.join(sub, b"below"), mode), b"deeper"), b"deeper\n", 0o400)
    maker.directory(os.path.join(base, b"empty-read-only"), 0o555)
    if maker.unreadable:
        for mode in [0o000, 0o200, 0o111, 0o4000]:
            maker.file(os.path.join(base, b"unreadable-file-%04o" % mode), b"hidden\n", mode)
        for mode in [0o000, 0o333, 0o444]:
            sub = maker.directory(os.path.join(base, b"unreadable-dir-%04o" % mode), mode)
            maker.file(os.path.join(sub, b"inside"), b"hidden\n")


@section
def owners(maker):
    if not maker.is_root:
        return
    base = maker.directory(maker.path("owners"))
    pairs = [(1, 1), (65534, 65534), (12345, 54321), (0, 12345), (12345, 0), (65536, 70000), (2147483648, 1), (4294967294, 4294967294)]
    for uid, gid in pairs:
        label = b"%d-%d" % (uid, gid)
        for mode in (0o644, 0o6755):
            path = maker.file(os.path.join(base, b"file-%o-" % mode + label), b"owned by " + label)
            os.chown(path, uid, gid)
            os.chmod(path, mode)  # chown takes setuid away
            maker.set_time(path)
        sub = maker.directory(os.path.join(base, b"dir-" + label), 0o2750)
        os.chown(sub, uid, gid)
        os.chown(maker.file(os.path.join(sub, b"inside"), b"inside\n"), uid, gid)
        link = maker.symlink(b"anywhere", os.path.join(base, b"link-" + label))
        os.chown(link, uid, gid, follow_symlinks=False)
    fifo = os.path.join(base, b"fifo")
    os.mkfifo(fifo)
    os.chown(fifo, 12345, 54321)
    maker.set_time(fifo)


def acl(*entries):
    """A system.posix_acl_* value. Entries: (tag, permissions, id or None)."""
    tags = {"user_obj": 1, "user": 2, "group_obj": 4, "group": 8, "mask": 16, "other": 32}
    out = struct.pack("<I", 2)
    for tag, permissions, number in sorted(entries, key=lambda e: (tags[e[0]], e[2] or 0)):
        out += struct.pack("<HHI", tags[tag], permissions, 0xFFFFFFFF if number is None else number)
    return out


@section
def xattrs(maker):
    base = maker.directory(maker.path("xattrs"))
    values = {
        "user.plain": b"value", "user.empty": b"", "user.binary": bytes(range(256)), "user.newline": b"a\nb\n",
        "user." + "n" * 200: b"long name", "user.\u00e9": b"name in UTF-8", "user.with space": b"x", "user.zero": b"\0",
    }
    path = maker.file(os.path.join(base, b"all"), b"many attributes\n")
    for name, value in values.items():
        maker.xattr(path, name, value)
    for size in (100, 1000, 3000, 20_000, 60_000):
        path = maker.file(os.path.join(base, b"value-%d" % size), b"large attribute\n")
        maker.xattr(path, "user.large", maker.content(size, compressible=False))
    path = maker.file(os.path.join(base, b"empty-file"), b"")
    maker.xattr(path, "user.only", b"attribute")
    maker.directory(os.path.join(base, b"directory"), 0o755, {"user.dir": b"on a directory", "user.empty": b""})
    maker.directory(os.path.join(base, b"read-only"), 0o555, {"user.dir": b"on a read-only directory"})
    maker.xattr(maker.file(os.path.join(base, b"read-only-file"), b"ro\n", 0o644), "user.ro", b"x")
    os.chmod(os.path.join(base, b"read-only-file"), 0o444)
    first = maker.file(os.path.join(base, b"linked-1"), b"linked\n")
    maker.xattr(first, "user.linked", b"both names")
    os.link(first, os.path.join(base, b"linked-2"))
    if maker.is_root:
        maker.xattr(maker.symlink(b"x", os.path.join(base, b"symlink")), "trusted.link", b"on a symlink")
        fifo = os.path.join(base, b"fifo")
        os.mkfifo(fifo)
        maker.xattr(fifo, "trusted.fifo", b"on a FIFO")
        maker.set_time(fifo)
        path = maker.file(os.path.join(base, b"trusted"), b"trusted\n")
        maker.xattr(path, "trusted.holdfast-test", b"\0\1\2")
        maker.xattr(path, "security.holdfast-test", b"security")


@section
def capabilities(maker):
    if not maker.is_root:
        return
    base = maker.directory(maker.path("capabilities"))
    # CAP_NET_BIND_SERVICE, effective; then CAP_NET_RAW and one above 31.
    for name, value in [(b"bind", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)),
                        (b"raw", struct.pack("<IIIII", 0x02000000, 1 << 13, 1 << 13, 1 << 5, 0)),
                        (b"rootid", struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 1000))]:
        path = maker.file(os.path.join(base, name), b"#!/bin/true\n", 0o755)
        os.chown(path, 1000, 1000)
        maker.xattr(path, "security.capability", value)
        maker.set_time(path)


@section
def acls(maker):
    base = maker.directory(maker.path("acls"))
    access = acl(("user_obj", 6, None), ("user", 4, 1000), ("user", 6, 12345), ("group_obj", 4, None), ("group", 7, 2000),
                 ("mask", 6, None), ("other", 0, None))
    owner_less = acl(("user_obj", 4, None), ("user", 7, 1), ("group_obj", 0, None), ("mask", 7, None), ("other", 0, None))
    default = acl(("user_obj", 7, None), ("user", 5, 1000), ("group_obj", 5, None), ("mask", 7, None), ("other", 1, None))
    for name, value in [(b"file", access), (b"owner-less", owner_less)]:
        path = maker.file(os.path.join(base, name), b"acl\n")
        maker.xattr(path, "system.posix_acl_access", value)
        maker.set_time(path)
    # Mode None: the access ACL and chmod would overwrite each other.
    both = maker.directory(os.path.join(base, b"both"), None)
    os.chmod(both, 0o770)
    maker.xattr(both, "system.posix_acl_access", acl(
        ("user_obj", 7, None), ("user", 7, 1000), ("group_obj", 5, None), ("mask", 7, None), ("other", 0, None)))
    maker.xattr(both, "system.posix_acl_default", default)
    maker.file(os.path.join(both, b"inherits"), b"inherited acl\n", 0o640)
    only = maker.directory(os.path.join(base, b"default-only"), None)
    os.chmod(only, 0o750)
    maker.xattr(only, "system.posix_acl_default", default)
    sub = maker.directory(os.path.join(only, b"sub"), None)
    maker.file(os.path.join(sub, b"leaf"), b"leaf\n", 0o600)
    # A restore that creates files before it sets the directory's default ACL, or after, must not add any.
    plain = maker.file(os.path.join(only, b"without-acl"), b"no acl\n", 0o640)
    try:
        os.removexattr(plain, "system.posix_acl_access")
    except OSError:
        pass
    maker.set_time(plain)


@section
def times(maker):
    base = maker.directory(maker.path("times"))
    for seconds in NOTABLE_SECONDS:
        for fraction in (0, 1, 123_456_789, NS - 1):
            label = b"%d.%09d" % (seconds, fraction)
            made = [maker.file(os.path.join(base, b"file" + label), b""), os.path.join(base, b"link" + label)]
            os.symlink(b"x", made[1])
            for path in made:
                when = seconds * NS + fraction
                try:
                    os.utime(path, ns=(when, when), follow_symlinks=False)
                except OSError as error:
                    maker.note_left_out("time %d" % seconds, error)


@section
def empty(maker):
    base = maker.directory(maker.path("empty"))
    for index in range(20):
        path = maker.directory(os.path.join(base, b"e%d" % index))
        for _ in range(index % 4):
            path = maker.directory(os.path.join(path, b"below"))


@section
def big_dir(maker):
    count = maker.options.big_dir
    if not count:
        return
    base = maker.directory(maker.path("big-dir"))
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    rng = maker.rng
    for index in range(count):
        name = b"%08x-%d" % (rng.getrandbits(32), index)
        kind = rng.random()
        if kind < 0.97:
            out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
            if kind < 0.3:
                os.write(out, name)
            os.close(out)
        elif kind < 0.99:
            os.symlink(name, name, dir_fd=fd)
        else:
            os.mkdir(name, 0o755, dir_fd=fd)
    os.close(fd)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--profile", choices=["quick", "full"], default="quick",
                        help="quick: about 100 MB; full: about 1 GB")
    parser.add_argument("--big-dir", type=int, default=0, metavar="N", help="also one directory of N entries")
    parser.add_argument("--unreadable", action="store_true", help="also what an ordinary user cannot read again")
    parser.add_argument("--only", default="", help="comma-separated sections: " + ", ".join(SECTIONS))
    parser.add_argument("--skip", default="")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    print("make_tree.py: seed %d, profile %s" % (seed, options.profile), flush=True)
    only = [s for s in options.only.split(",") if s]
    skip = [s for s in options.skip.split(",") if s]
    for name in only + skip:
        if name not in SECTIONS:
            parser.error("no section '%s'" % name)

    os.umask(0o022)
    os.mkdir(options.dir, 0o700)
    # Each section has its own generator, so that --only makes the same entries.
    top = Maker(options.dir, random.Random("%d top" % seed), options)
    makers = []
    for name, make in SECTIONS.items():
        if (only and name not in only) or name in skip:
            continue
        maker = Maker(options.dir, random.Random("%d %s" % (seed, name)), options)
        try:
            make(maker)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
            maker.note_left_out("section " + name, error)
        makers.append(maker)
    for maker in makers:
        maker.finish()
        for what, count in maker.left_out.items():
            print("make_tree.py: left out: %s (%d times)" % (what, count), file=sys.stderr)
    os.chmod(top.root, 0o755)
    top.xattr(top.root, "user.root", b"of the tree")
    top.set_time(top.root)


if __name__ == "__main__":
    main()
