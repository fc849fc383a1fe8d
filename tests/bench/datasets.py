"""The data that the benchmark backs up. Seeded: the same seed and scale give the same bytes."""

import os
import random
import shutil
import subprocess
import sys

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CHANGED_BLOCK = 64 * KIB
CLUSTER_BLOCKS = 8
CHANGED_SHARE = 0.01


def random_stream(path, size, seed):
    """`size` incompressible bytes, as fast as AES-CTR makes them."""
    with open(path, "wb") as out:
        zero = open("/dev/zero", "rb")
        cipher = subprocess.Popen(["openssl", "enc", "-aes-128-ctr", "-nosalt", "-pass", "pass:%d" % seed],
                                  stdin=zero, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        left = size
        while left:
            block = cipher.stdout.read(min(left, 4 * MIB))
            out.write(block)
            left -= len(block)
        cipher.stdout.close()
        cipher.wait()
        zero.close()


def change_blocks(path, seed):
    """1 % of the file in blocks of 64 KiB, eight in a row."""
    rng = random.Random("blocks %s" % seed)
    blocks = os.path.getsize(path) // CHANGED_BLOCK
    clusters = max(1, round(blocks * CHANGED_SHARE / CLUSTER_BLOCKS))
    with open(path, "r+b") as out:
        for _ in range(clusters):
            out.seek(rng.randrange(max(1, blocks - CLUSTER_BLOCKS)) * CHANGED_BLOCK)
            out.write(rng.randbytes(CHANGED_BLOCK * CLUSTER_BLOCKS))


def regular_files(top):
    for directory, names, files in os.walk(top):
        names.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


class Dataset:
    name = ""
    title = ""

    def __init__(self, directory, scale, seed):
        self.path = os.path.join(directory, self.name)
        self.scale = scale
        self.seed = seed

    def make(self):
        raise NotImplementedError

    def change(self, run):
        raise NotImplementedError

    def remove(self):
        subprocess.run(["rm", "-rf", self.path], check=True)


class Usr(Dataset):
    name = "usr"
    title = "/usr (a copy, so that it can change)"

    def make(self):
        # A scaled-down run takes the first directories of /usr that are about this share.
        os.makedirs(self.path)
        if self.scale >= 1:
            subprocess.run(["cp", "-a", "/usr/.", self.path], check=False)
            return
        budget = self.scale * 5.7e9
        for name in sorted(os.listdir("/usr"), key=lambda n: n != "share"):
            for sub in sorted(os.listdir("/usr/" + name)) if os.path.isdir("/usr/" + name) else []:
                if budget <= 0:
                    return
                source = "/usr/%s/%s" % (name, sub)
                os.makedirs(os.path.join(self.path, name), exist_ok=True)
                subprocess.run(["cp", "-a", source, os.path.join(self.path, name)], check=False, stderr=subprocess.DEVNULL)
                budget -= int(subprocess.run(["du", "-sb", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                             text=True).stdout.split()[0])

    def change(self, run):
        """1 % of the files grow by a line, 0.1 % go, one directory is renamed."""
        rng = random.Random("usr %s %s" % (self.seed, run))
        files = list(regular_files(self.path))
        for path in rng.sample(files, max(1, len(files) // 100)):
            mode = os.stat(path).st_mode
            try:
                with open(path, "ab") as out:
                    out.write(b"changed in run %d\n" % run)
                os.chmod(path, mode & 0o7777)
            except OSError:
                continue
        for path in rng.sample(files, max(1, len(files) // 1000)):
            os.unlink(path)
        directories = sorted(e.path for e in os.scandir(os.path.join(self.path, "share")) if e.is_dir(follow_symlinks=False))
        chosen = rng.choice(directories)
        os.rename(chosen, chosen + "-renamed")


class Incompressible(Dataset):
    name = "incompressible"
    title = "one incompressible file of 4 GiB"

    def make(self):
        os.makedirs(self.path)
        random_stream(os.path.join(self.path, "data"), int(4 * GIB * self.scale), self.seed)

    def change(self, run):
        change_blocks(os.path.join(self.path, "data"), "%s %s" % (self.seed, run))


class Small(Dataset):
    name = "small"
    title = "300,000 files of 1 to 8 KiB"
    files_per_directory = 1000

    def content(self, rng, phrases, size):
        # Three parts hexadecimal digits, one part phrases that come again: zstd gets it to about a half.
        digits = rng.randbytes(size * 3 // 8 + 1).hex().encode()
        parts = []
        for at in range(0, len(digits), 240):
            parts += (digits[at:at + 240], rng.choice(phrases))
        return b"".join(parts)[:size]

    def make(self):
        rng = random.Random("small %s" % self.seed)
        words = [rng.randbytes(rng.randrange(1, 5)).hex().encode() for _ in range(3000)]
        phrases = [b" ".join(rng.choice(words) for _ in range(13))[:79] + b"\n" for _ in range(4000)]
        count = int(300_000 * self.scale)
        fd = None
        for index in range(count):
            if index % self.files_per_directory == 0:
                directory = os.path.join(self.path, "d%04d" % (index // self.files_per_directory))
                os.makedirs(directory)
                if fd is not None:
                    os.close(fd)
                fd = os.open(directory, os.O_RDONLY)
            out = os.open("file-%06d.txt" % index, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
            os.write(out, self.content(rng, phrases, rng.randrange(1 * KIB, 8 * KIB + 1)))
            os.close(out)
        os.close(fd)

    def change(self, run):
        rng = random.Random("small %s %s" % (self.seed, run))
        files = list(regular_files(self.path))
        for path in rng.sample(files, max(1, len(files) // 100)):
            with open(path, "r+b") as out:
                out.write(b"changed in run %d %s\n" % (run, rng.randbytes(20).hex().encode()))


class Image(Dataset):
    name = "image"
    title = "a disk image of 4 GiB of mixed files"

    def make(self):
        os.makedirs(self.path)
        image = os.path.join(self.path, "disk.img")
        size = int(4 * GIB * self.scale)
        if os.geteuid() != 0 or not self.make_file_system(image, size):
            self.concatenate(image, size)

    def make_file_system(self, image, size):
        """An ext4 that is nearly full of files of /usr."""
        mount = self.path + ".mount"
        os.makedirs(mount, exist_ok=True)
        with open(image, "wb") as out:
            out.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, mount]).returncode != 0:
            os.rmdir(mount)
            return False
        try:
            # Every third file, so that the image is mixed at every scale.
            for index, path in enumerate(regular_files("/usr")):
                if index % (3 if self.scale < 1 else 1):
                    continue
                target = mount + path
                os.makedirs(os.path.dirname(target), exist_ok=True)
                try:
                    shutil.copyfile(path, target)
                except OSError:
                    break  # full
        finally:
            subprocess.run(["umount", mount], check=True)
            os.rmdir(mount)
        # A real image has no holes where it was never written: all of it is data.
        subprocess.run(["cp", "--sparse=never", image, image + ".new"], check=True)
        os.rename(image + ".new", image)
        return True

    def concatenate(self, image, size):
        with open(image, "wb") as out:
            for path in regular_files("/usr"):
                with open(path, "rb") as source:
                    shutil.copyfileobj(source, out, MIB)
                if out.tell() >= size:
                    break
            out.truncate(size)

    def change(self, run):
        change_blocks(os.path.join(self.path, "disk.img"), "%s %s" % (self.seed, run))


ALL = {c.name: c for c in (Usr, Incompressible, Small, Image)}

if __name__ == "__main__":
    # datasets.py NAME DIRECTORY SCALE SEED [RUN]: makes it; with RUN, changes it.
    chosen = ALL[sys.argv[1]](sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
    if len(sys.argv) > 5:
        chosen.change(int(sys.argv[5]))
    else:
        chosen.make()
