"""The programs that the benchmark compares. Each keeps its repository, cache and settings below one directory."""

import json
import os
import shutil
import subprocess
import time

PASSWORD = "benchmark password"


def files_bytes(path):
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                st = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            total += st.st_size
    return total


class Tool:
    name = ""
    server_pid = None
    exit_ok = (0,)

    def __init__(self, directory):
        self.directory = directory
        self.repository = os.path.join(directory, "repository")
        self.environment = dict(os.environ, HOME=directory, XDG_CACHE_HOME=directory + "/cache", XDG_CONFIG_HOME=directory + "/config")
        self.backups = 0

    @classmethod
    def program(cls):
        return shutil.which(cls.name)

    @classmethod
    def version(cls):
        run = subprocess.run([cls.program(), "version" if cls.name == "restic" else "--version"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
        return run.stdout.strip().splitlines()[0][:100] if run.stdout.strip() else "?"

    def run(self, *argv):
        done = subprocess.run([self.program(), *argv], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode not in self.exit_ok:
            raise RuntimeError("%s %s: exit %d: %s" % (self.name, " ".join(argv[:3]), done.returncode, done.stdout[-500:]))
        return done.stdout

    def create(self):
        """Makes an empty repository and starts what is needed."""
        raise NotImplementedError

    def backup(self, source):
        """The command that backs `source` up."""
        raise NotImplementedError

    def restore(self, source, target):
        """The command that restores the last backup below `target`, and where its contents then are."""
        raise NotImplementedError

    def repository_bytes(self):
        return files_bytes(self.repository)

    def other_bytes(self):
        """What it keeps besides: caches, indexes."""
        return files_bytes(self.directory) - self.repository_bytes()

    def end(self):
        subprocess.run(["rm", "-rf", self.directory], check=True)


class Restic(Tool):
    name = "restic"

    def create(self):
        os.makedirs(self.directory)
        self.environment.update(RESTIC_PASSWORD=PASSWORD, RESTIC_REPOSITORY=self.repository)
        self.run("init", "-q")

    def backup(self, source):
        return [self.program(), "backup", "-q", source]

    def restore(self, source, target):
        return [self.program(), "restore", "-q", "latest", "--target", target], target + source


class Borg(Tool):
    name = "borg"
    exit_ok = (0, 1)

    def create(self):
        os.makedirs(self.directory)
        self.environment.update(BORG_PASSPHRASE=PASSWORD, BORG_BASE_DIR=self.directory + "/base", BORG_REPO=self.repository,
                                BORG_RELOCATED_REPO_ACCESS_IS_OK="yes")
        self.run("init", "--encryption=repokey-blake2")

    def backup(self, source):
        self.backups += 1
        return [self.program(), "create", "--compression", "zstd,3", "::b%d" % self.backups, source]

    def restore(self, source, target):
        # It extracts below the current directory.
        return (["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", target, self.program(), "extract", "::b%d" % self.backups],
                target + source)


class Kopia(Tool):
    name = "kopia"

    def create(self):
        os.makedirs(self.directory)
        self.environment.update(KOPIA_PASSWORD=PASSWORD, KOPIA_CONFIG_PATH=self.directory + "/kopia.config",
                                KOPIA_CACHE_DIRECTORY=self.directory + "/kopia-cache", KOPIA_LOG_DIR=self.directory + "/logs",
                                KOPIA_CHECK_FOR_UPDATES="false")
        self.run("repository", "create", "filesystem", "--path", self.repository)
        self.run("policy", "set", "--global", "--compression=zstd-fastest")

    def backup(self, source):
        return [self.program(), "snapshot", "create", "--no-progress", source]

    def restore(self, source, target):
        listed = json.loads(self.run("snapshot", "list", "--json", source))
        root = max(listed, key=lambda s: s["startTime"])["id"]
        return [self.program(), "restore", "--no-progress", root, target + "/restored"], target + "/restored"


class Holdfast(Tool):
    name = "holdfast"
    binaries = None

    @classmethod
    def program(cls):
        here = os.path.dirname(os.path.abspath(__file__))
        cls.binaries = os.environ.get("HOLDFAST_BIN", os.path.join(here, "../../bin"))
        path = os.path.abspath(os.path.join(cls.binaries, "holdfast"))
        return path if os.access(path, os.X_OK) else None

    def create(self):
        os.makedirs(self.directory)
        # The socket's name has 107 bytes at most; the benchmark's directory may be deep.
        self.runtime = "/tmp/hfbench.%d" % os.getpid()
        os.makedirs(self.runtime, 0o700, exist_ok=True)
        for kind in ("DATA", "CONFIG", "CACHE", "STATE"):
            self.environment["XDG_%s_HOME" % kind] = "%s/%s" % (self.directory, kind.lower())
        self.environment["XDG_RUNTIME_DIR"] = self.runtime
        log = open(self.directory + "/server.log", "ab")
        self.server = subprocess.Popen([os.path.join(self.binaries, "holdfastd")], env=self.environment, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
        log.close()
        self.server_pid = self.server.pid
        deadline = time.monotonic() + 60
        while True:
            try:
                self.run("repository", "list")
                break
            except RuntimeError:
                if time.monotonic() > deadline or self.server.poll() is not None:
                    raise
                time.sleep(0.05)
        self.environment["HOLDFAST_PASSWORD"] = PASSWORD
        self.run("repository", "create")
        # As on any machine that is backed up unattended; the others have their password in the environment.
        self.run("repository", "unlock")
        del self.environment["HOLDFAST_PASSWORD"]
        self.repository = self.find_repository()

    def find_repository(self):
        for directory, names, _ in os.walk(self.environment["XDG_DATA_HOME"]):
            if "format" in names and "keys" in names:
                return directory
        raise RuntimeError("no repository below XDG_DATA_HOME")

    def backup(self, source):
        return [self.program(), "snapshot", "create", source]

    def restore(self, source, target):
        return [self.program(), "restore", "latest", "--target", target + "/restored"], target + "/restored"

    def other_bytes(self):
        return files_bytes(self.directory) - self.repository_bytes()

    def end(self):
        if self.server.poll() is None:
            self.server.terminate()
            try:
                self.server.wait(60)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        shutil.rmtree(self.runtime, ignore_errors=True)
        super().end()


ALL = {c.name: c for c in (Holdfast, Restic, Borg, Kopia)}
