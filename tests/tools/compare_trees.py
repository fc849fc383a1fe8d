#!/usr/bin/env python3
"""Compares two directory trees: content and every metadata field a backup should bring back.

    compare_trees.py A B [--ignore-owner] [--max N] [--json FILE] [--skip PATH]...

Compared: names, type, mode with setuid, setgid and sticky bit, uid, gid, size, mtime in ns (of
directories and symlinks too), which names are hard links of each other, symlink targets, device
numbers, xattrs with ACLs and capabilities, holes, content. Not compared: ctime, atime, inode.

Written without any of Holdfast's code. Paths may be longer than PATH_MAX.
Exit status: 0 equal, 1 different, 2 something could not be compared.
"""

import argparse
import errno
import fnmatch
import json
import os
import stat
import sys

BLOCK = 1 << 20
KEEP_OPEN = 200  # directories above this depth are kept open, those below are reached again by ".."
# Ranges that are a hole on one side only may add up to this much: block sizes differ.
HOLE_BYTES_TOLERATED = 64 << 10

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "FIFO",
         stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device"}
OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def shown(path):
    """For people: escaped, and cut in the middle if very long."""
    if len(path) > 300:
        path = path[:120] + b" ... " + path[-120:]
    return repr(path)[2:-1] if not path.isascii() or any(b < 32 or b == 127 for b in path) else path.decode()


class Side:
    """A position in one tree, moved in step with the other one's."""

    def __init__(self, root):
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.stack = []

    def enter(self, name):
        below = os.open(name, OPEN_DIR, dir_fd=self.fd)
        if len(self.stack) < KEEP_OPEN:
            self.stack.append(self.fd)
        else:
            os.close(self.fd)
            self.stack.append(None)
        self.fd = below

    def leave(self):
        above = self.stack.pop()
        if above is None:
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        os.close(self.fd)
        self.fd = above

    def names(self):
        with os.scandir(self.fd) as entries:
            return {os.fsencode(e.name) for e in entries}


class Comparison:
    def __init__(self, options):
        self.options = options
        self.differences = []  # (path, what)
        self.count = 0
        self.uncomparable = 0
        self.entries = 0
        self.bytes = 0
        self.leaders = ({}, {})      # (dev, ino) -> first path, for each side
        self.compared = set()        # inode pairs whose content was compared
        self.buffers = (bytearray(BLOCK), bytearray(BLOCK))

    def differ(self, path, what):
        self.count += 1
        if len(self.differences) < self.options.max:
            self.differences.append((path, what))

    def cannot(self, path, what, error):
        self.uncomparable += 1
        self.differ(path, "cannot compare %s: %s" % (what, error.strerror))

    # --- One entry ---

    def entry(self, a, b, name, path):
        """Compares `name` on both sides; True if both are directories to go into."""
        self.entries += 1
        try:
            sa = os.stat(name, dir_fd=a.fd, follow_symlinks=False)
            sb = os.stat(name, dir_fd=b.fd, follow_symlinks=False)
        except OSError as error:
            self.cannot(path, "status", error)
            return False
        return self.metadata(a, b, name, path, sa, sb)

    def metadata(self, a, b, name, path, sa, sb):
        ka, kb = stat.S_IFMT(sa.st_mode), stat.S_IFMT(sb.st_mode)
        if ka != kb:
            self.differ(path, "type: %s, %s" % (TYPES.get(ka), TYPES.get(kb)))
            return False
        ma, mb = stat.S_IMODE(sa.st_mode), stat.S_IMODE(sb.st_mode)
        if self.options.ignore_owner:
            # Special bits mean something only together with the owner they were set for.
            if sa.st_uid != sb.st_uid:
                ma, mb = ma & ~stat.S_ISUID, mb & ~stat.S_ISUID
            if sa.st_gid != sb.st_gid:
                ma, mb = ma & ~stat.S_ISGID, mb & ~stat.S_ISGID
        elif (sa.st_uid, sa.st_gid) != (sb.st_uid, sb.st_gid):
            self.differ(path, "owner: %d:%d, %d:%d" % (sa.st_uid, sa.st_gid, sb.st_uid, sb.st_gid))
        if ma != mb:
            self.differ(path, "mode: %04o, %04o" % (ma, mb))
        if sa.st_mtime_ns != sb.st_mtime_ns:
            self.differ(path, "mtime: %d, %d" % (sa.st_mtime_ns, sb.st_mtime_ns))
        self.xattrs(a, b, name, path)
        if ka == stat.S_IFDIR:
            return True
        if sa.st_nlink > 1 or sb.st_nlink > 1:
            first_a = self.leaders[0].setdefault((sa.st_dev, sa.st_ino), path)
            first_b = self.leaders[1].setdefault((sb.st_dev, sb.st_ino), path)
            if first_a != first_b:
                self.differ(path, "hard link: %s, %s" % tuple(
                    "its own" if first == path else "of " + shown(first) for first in (first_a, first_b)))
        if ka == stat.S_IFLNK:
            self.link_targets(a, b, name, path)
        elif ka in (stat.S_IFCHR, stat.S_IFBLK):
            if sa.st_rdev != sb.st_rdev:
                self.differ(path, "device: %d:%d, %d:%d" % (os.major(sa.st_rdev), os.minor(sa.st_rdev),
                                                            os.major(sb.st_rdev), os.minor(sb.st_rdev)))
        elif ka == stat.S_IFREG:
            if sa.st_size != sb.st_size:
                self.differ(path, "size: %d, %d" % (sa.st_size, sb.st_size))
            else:
                pair = (sa.st_dev, sa.st_ino, sb.st_dev, sb.st_ino)
                if sa.st_nlink == 1 or pair not in self.compared:
                    if sa.st_nlink > 1:
                        self.compared.add(pair)
                    self.content(a, b, name, path, sa.st_size)
        return False

    def link_targets(self, a, b, name, path):
        try:
            ta, tb = os.readlink(name, dir_fd=a.fd), os.readlink(name, dir_fd=b.fd)
        except OSError as error:
            self.cannot(path, "link target", error)
            return
        if ta != tb:
            self.differ(path, "link target: %s, %s" % (shown(ta[:100]), shown(tb[:100])))

    def read_xattrs(self, fd, name):
        # listxattr takes no dir_fd; this leads there whatever the length of the path.
        where = b"/proc/self/fd/%d/%s" % (fd, name) if name else b"/proc/self/fd/%d/." % fd
        found = {}
        try:
            listed = os.listxattr(where, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return found
            raise
        for key in listed:
            if any(fnmatch.fnmatchcase(key, p) for p in self.options.ignore_xattr):
                continue
            found[key] = os.getxattr(where, key, follow_symlinks=False)
        return found

    def xattrs(self, a, b, name, path):
        try:
            xa, xb = self.read_xattrs(a.fd, name), self.read_xattrs(b.fd, name)
        except OSError as error:
            self.cannot(path, "xattrs", error)
            return
        if xa == xb:
            return
        for key in sorted(set(xa) | set(xb)):
            if key not in xb:
                self.differ(path, "xattr %s: missing" % ascii(key))
            elif key not in xa:
                self.differ(path, "xattr %s: new" % ascii(key))
            elif xa[key] != xb[key]:
                self.differ(path, "xattr %s: %d bytes %s, %d bytes %s" % (
                    ascii(key), len(xa[key]), xa[key][:24].hex(), len(xb[key]), xb[key][:24].hex()))

    # --- Content ---

    def content(self, a, b, name, path, size):
        if size == 0:
            return
        fds = []
        try:
            for side in (a, b):
                fds.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=side.fd))
            self.open_content(fds[0], fds[1], path, size)
        except OSError as error:
            self.cannot(path, "content", error)
        finally:
            for fd in fds:
                os.close(fd)

    def open_content(self, fa, fb, path, size):
        whole = [(0, size)]
        da, db = (whole, whole) if size < HOLE_BYTES_TOLERATED else (data_ranges(fa, size), data_ranges(fb, size))
        if da != db:
            vanished, appeared = only_in(db, da), only_in(da, db)
            lost, new = sum(e - s for s, e in vanished), sum(e - s for s, e in appeared)
            if lost >= HOLE_BYTES_TOLERATED:
                self.differ(path, "holes: %d bytes vanished, first at %d" % (lost, vanished[0][0]))
            if new >= HOLE_BYTES_TOLERATED:
                self.differ(path, "holes: %d bytes appeared, first at %d" % (new, appeared[0][0]))
        va, vb = memoryview(self.buffers[0]), memoryview(self.buffers[1])
        for start, end in union(da, db):
            offset = start
            while offset < end:
                want = min(BLOCK, end - offset)
                na, nb = read_full(fa, va[:want], offset), read_full(fb, vb[:want], offset)
                if na != want or nb != want:
                    self.differ(path, "content: ends at %d" % (offset + min(na, nb)))
                    return
                self.bytes += want
                same = self.buffers[0] == self.buffers[1] if want == BLOCK else va[:want] == vb[:want]
                if not same:
                    at = next(i for i in range(want) if va[i] != vb[i])
                    self.differ(path, "content: differs at offset %d of %d" % (offset + at, size))
                    return
                offset += want

    # --- The walk ---

    def trees(self, a, b):
        self.entries += 1
        if not self.metadata(a, b, b"", b".", os.fstat(a.fd), os.fstat(b.fd)):
            return
        stack = [(b"", self.listing(a, b, b""))]
        while stack:
            prefix, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                if stack:
                    a.leave()
                    b.leave()
                continue
            path = prefix + name
            if path in self.options.skip or not self.entry(a, b, name, path):
                continue
            entered = []
            try:
                for side in (a, b):
                    side.enter(name)
                    entered.append(side)
                listing = self.listing(a, b, path + b"/")
            except OSError as error:
                for side in entered:
                    side.leave()
                self.cannot(path, "directory", error)
                continue
            stack.append((path + b"/", listing))

    def listing(self, a, b, prefix):
        na, nb = a.names(), b.names()
        if na != nb:
            for name in sorted(na - nb):
                if prefix + name not in self.options.skip:
                    self.differ(prefix + name, "missing")
            for name in sorted(nb - na):
                if prefix + name not in self.options.skip:
                    self.differ(prefix + name, "new")
        return iter(sorted(na & nb))


def data_ranges(fd, size):
    """The ranges that are not holes, as the file system reports them."""
    ranges = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return [(0, size)]
            raise
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
        offset = end
    return ranges


def only_in(first, second):
    """The parts of `first` that no range of `second` covers."""
    out = []
    index = 0
    for start, end in first:
        while index < len(second) and second[index][1] <= start:
            index += 1
        at = start
        i = index
        while i < len(second) and second[i][0] < end:
            if second[i][0] > at:
                out.append((at, second[i][0]))
            at = max(at, second[i][1])
            i += 1
        if at < end:
            out.append((at, end))
    return out


def union(first, second):
    if first == second:
        return first
    out = []
    for start, end in sorted(first + second):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def read_full(fd, view, offset):
    done = 0
    while done < len(view):
        n = os.preadv(fd, [view[done:]], offset + done)
        if n == 0:
            break
        done += n
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--ignore-owner", action="store_true",
                        help="an ordinary user restored B: no owners, no security.* and trusted.* attributes")
    parser.add_argument("--ignore-xattr", action="append", default=[], metavar="GLOB")
    parser.add_argument("--skip", action="append", default=[], metavar="PATH", help="leave out PATH and what is below")
    parser.add_argument("--max", type=int, default=50, help="differences to print (default 50)")
    parser.add_argument("--json", metavar="FILE", help="also write the differences here (paths percent-encoded)")
    parser.add_argument("--quiet", action="store_true", help="print nothing if equal")
    options = parser.parse_args()
    options.skip = {os.fsencode(p) for p in options.skip}
    if options.ignore_owner:
        options.ignore_xattr += ["security.*", "trusted.*"]

    comparison = Comparison(options)
    comparison.trees(Side(os.fsencode(options.a)), Side(os.fsencode(options.b)))
    for path, what in comparison.differences:
        print("%s: %s" % (shown(path), what))
    if comparison.count > len(comparison.differences):
        print("... and %d more" % (comparison.count - len(comparison.differences)))
    if options.json:
        from urllib.parse import quote
        with open(options.json, "w") as out:
            json.dump({"entries": comparison.entries, "bytes": comparison.bytes, "differences": comparison.count,
                       "listed": [{"path": quote(p, safe="/"), "what": w} for p, w in comparison.differences]}, out)
    if comparison.count:
        print("compare_trees.py: %d differences in %d entries" % (comparison.count, comparison.entries))
        sys.exit(2 if comparison.uncomparable else 1)
    if not options.quiet:
        print("compare_trees.py: equal: %d entries, %d bytes" % (comparison.entries, comparison.bytes))


if __name__ == "__main__":
    main()
