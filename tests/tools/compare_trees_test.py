#!/usr/bin/env python3
"""compare_trees.py sees every kind of difference, and none where there is none."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import unittest

COMPARE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compare_trees.py")
KIB, MIB = 1 << 10, 1 << 20


def build(root):
    os.makedirs(root + "/dir/empty")
    for name, data in [("file", b"content\n"), ("large", b"x" * (3 * MIB)), ("dir/one", b"1"), ("bytes", b"bytes")]:
        with open(root + "/" + name, "wb") as out:
            out.write(data)
    with open(root + "/sparse", "wb") as out:
        out.truncate(2 * MIB)
        out.seek(MIB)
        out.write(b"d" * (64 * KIB))
    os.link(root + "/file", root + "/dir/file-link")
    os.symlink("file", root + "/symlink")
    os.mkfifo(root + "/fifo")
    os.setxattr(root + "/file", "user.a", b"value")
    for directory, dirs, files in os.walk(root, topdown=False):
        for name in files + dirs:
            os.utime(os.path.join(directory, name), ns=(5, 1_500_000_000_123_456_789), follow_symlinks=False)
    os.utime(root, ns=(5, 7))


def write_at(path, offset, data):
    before = os.stat(path)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, offset)
    os.close(fd)
    os.utime(path, ns=(5, before.st_mtime_ns))


def keep_times(change):
    """Makes a change in a directory without a difference in the directory's own time."""
    def changed(root):
        change(root)
        os.utime(root, ns=(5, 7))
        os.utime(root + "/dir", ns=(5, 1_500_000_000_123_456_789))
    return changed


def replace_link(root):
    os.unlink(root + "/dir/file-link")
    shutil.copy2(root + "/file", root + "/dir/file-link")


def link_more(root):
    os.unlink(root + "/bytes")
    os.link(root + "/dir/one", root + "/bytes")


def fill_hole(root):
    write_at(root + "/sparse", 0, bytes(MIB))


def socket_for_fifo(root):
    os.unlink(root + "/fifo")
    os.mknod(root + "/fifo", stat.S_IFSOCK | 0o644)
    os.utime(root + "/fifo", ns=(5, 1_500_000_000_123_456_789))


def retarget(root):
    os.unlink(root + "/symlink")
    os.symlink("elsewhere", root + "/symlink")
    os.utime(root + "/symlink", ns=(5, 1_500_000_000_123_456_789), follow_symlinks=False)


CHANGES = {
    "content at the start": (lambda r: write_at(r + "/large", 0, b"y"), "large: content"),
    "content in the middle": (lambda r: write_at(r + "/large", MIB + 5, b"y"), "large: content"),
    "last byte": (lambda r: write_at(r + "/large", 3 * MIB - 1, b"y"), "large: content"),
    "a small file": (lambda r: write_at(r + "/dir/one", 0, b"2"), "dir/one: content"),
    "data where a hole was": (lambda r: write_at(r + "/sparse", 300 * KIB, b"n"), "sparse: content"),
    "data zeroed": (lambda r: write_at(r + "/sparse", MIB + 7, b"\0"), "sparse: content"),
    "a vanished hole": (fill_hole, "sparse: holes"),
    "size": (lambda r: os.truncate(r + "/bytes", 4), "bytes: size"),
    "mode": (lambda r: os.chmod(r + "/bytes", 0o711), "bytes: mode"),
    "setuid": (lambda r: os.chmod(r + "/bytes", 0o4644), "bytes: mode"),
    "sticky directory": (lambda r: os.chmod(r + "/dir", 0o1755), "dir: mode"),
    "time of a file": (lambda r: os.utime(r + "/bytes", ns=(5, 1_500_000_000_123_456_788)), "bytes: mtime"),
    "time of a directory": (lambda r: os.utime(r + "/dir/empty", ns=(5, 6)), "dir/empty: mtime"),
    "time of the root": (lambda r: os.utime(r, ns=(5, 6)), ".: mtime"),
    "time of a symlink": (lambda r: os.utime(r + "/symlink", ns=(5, 6), follow_symlinks=False), "symlink: mtime"),
    "a missing file": (keep_times(lambda r: os.unlink(r + "/dir/one")), "dir/one: missing"),
    "a new file": (keep_times(lambda r: open(r + "/dir/two", "w").close()), "dir/two: new"),
    "a missing directory": (keep_times(lambda r: os.rmdir(r + "/dir/empty")), "dir/empty: missing"),
    "link target": (keep_times(retarget), "symlink: link target"),
    "type": (keep_times(socket_for_fifo), "fifo: type"),
    "a lost hard link": (keep_times(replace_link), "hard link"),
    "a hard link too many": (keep_times(link_more), "hard link"),
    "xattr value": (lambda r: os.setxattr(r + "/file", "user.a", b"other"), "xattr 'user.a'"),
    "xattr missing": (lambda r: os.removexattr(r + "/file", "user.a"), "xattr 'user.a': missing"),
    "xattr new": (lambda r: os.setxattr(r + "/dir", "user.b", b""), "dir: xattr 'user.b': new"),
    "xattr of the root": (lambda r: os.setxattr(r, "user.b", b""), ".: xattr 'user.b': new"),
    "ACL": (lambda r: os.setxattr(r + "/dir", "system.posix_acl_default", bytes.fromhex(
        "02000000 01000700ffffffff 02000500e8030000 04000500ffffffff 10000700ffffffff 20000100ffffffff")), "dir: xattr"),
}
if os.geteuid() == 0:
    CHANGES["owner"] = (lambda r: os.chown(r + "/bytes", 7, 0), "bytes: owner")
    CHANGES["group of a symlink"] = (lambda r: os.chown(r + "/symlink", 0, 8, follow_symlinks=False), "symlink: owner")


class CompareTrees(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="hf-compare-")
        self.a, self.b = self.work + "/a", self.work + "/b"
        build(self.a)
        build(self.b)

    def tearDown(self):
        shutil.rmtree(self.work)

    def compare(self, *flags):
        run = subprocess.run([sys.executable, COMPARE, self.a, self.b, *flags], stdout=subprocess.PIPE, text=True)
        return run.returncode, run.stdout

    def test_equal_trees_are_equal(self):
        status, out = self.compare()
        self.assertEqual((status, out.split(":")[1].strip()), (0, "equal"), out)

    def test_every_change_is_seen(self):
        for name, (change, expected) in CHANGES.items():
            with self.subTest(name):
                change(self.b)
                status, out = self.compare()
                self.assertEqual(status, 1, "%s: %s" % (name, out))
                self.assertIn(expected, out)
                shutil.rmtree(self.b)
                build(self.b)

    def test_a_socket_is_compared(self):
        for root in (self.a, self.b):
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(root + "/socket")
            bound.close()
            os.utime(root + "/socket", ns=(5, 5))
            os.utime(root, ns=(5, 7))
        self.assertEqual(self.compare()[0], 0)


if __name__ == "__main__":
    unittest.main()
