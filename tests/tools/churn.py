#!/usr/bin/env python3
"""Changes files all the time, the ways live systems do, until SIGTERM or --seconds are over.

    churn.py DIR [--seconds N] [--seed N]

Files in DIR vanish, come back, shrink, grow, are rewritten in place with their old time stamps,
are renamed over, become FIFOs, symlinks or directories, and back. Prints its seed.
"""

import argparse
import os
import random
import shutil
import signal
import stat
import sys
import time

NAMES = 40


def clear(path):
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def write(path, data, mode="wb"):
    with open(path, mode) as out:
        out.write(data)


def is_file(path):
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def change(rng, path):
    action = rng.choice(["create", "create", "create", "vanish", "shrink", "grow", "grow", "rewrite", "replace", "fifo", "symlink",
                         "directory", "chmod"])
    if action in ("shrink", "grow", "rewrite", "chmod") and not is_file(path):
        action = "create"
    if action == "create":
        clear(path)
        write(path, rng.randbytes(rng.choice([0, 10, 1000, 100_000, 3_000_000])))
    elif action == "vanish":
        clear(path)
    elif action == "shrink":
        os.truncate(path, os.path.getsize(path) // 3)
    elif action == "grow":
        write(path, rng.randbytes(rng.choice([1, 5000, 400_000])), "ab")
    elif action == "rewrite":
        # Same size, same mtime: only ctime tells.
        before = os.stat(path)
        write(path, rng.randbytes(before.st_size), "r+b")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif action == "replace":
        write(path + ".new", rng.randbytes(rng.choice([7, 50_000])))
        if os.path.isdir(path) and not os.path.islink(path):
            clear(path)
        os.rename(path + ".new", path)
    elif action == "fifo":
        clear(path)
        os.mkfifo(path)
    elif action == "symlink":
        clear(path)
        os.symlink("/etc/passwd", path)
    elif action == "directory":
        clear(path)
        os.mkdir(path)
        write(os.path.join(path, "inside"), rng.randbytes(100))
    elif action == "chmod":
        os.chmod(path, rng.choice([0o600, 0o644, 0o755]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    print("churn.py: seed %d" % seed, flush=True)
    stopping = []
    # Stops between two changes, so that nothing is left half done.
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    rng = random.Random(seed)
    os.makedirs(options.dir, exist_ok=True)
    deadline = time.monotonic() + options.seconds
    while not stopping and time.monotonic() < deadline:
        change(rng, os.path.join(options.dir, "f%02d" % rng.randrange(NAMES)))


if __name__ == "__main__":
    sys.exit(main())
