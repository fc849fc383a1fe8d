#!/usr/bin/env python3
"""Runs the benchmark; see run.sh. Prints Markdown tables and writes JSON."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import datasets
import tools

HERE = os.path.dirname(os.path.abspath(__file__))
COMPARE = os.path.join(HERE, "../tools/compare_trees.py")
TICK = os.sysconf("SC_CLK_TCK")
PHASES = ["first", "no change", "changed", "restore"]

# Kopia's time over restic's, measured 2026-11-22 on 2 cores (docs/benchmarks.md), for where Kopia is not at hand.
KOPIA_OVER_RESTIC = {
    ("usr", "first"): 47.5 / 49.0, ("usr", "no change"): 2.8 / 6.2, ("usr", "restore"): 49.9 / 29.5,
    ("small", "first"): 25.2 / 27.7, ("small", "no change"): 3.1 / 10.7, ("small", "restore"): 34.8 / 36.3,
    ("incompressible", "first"): 19.1 / 21.6, ("incompressible", "restore"): 13.6 / 11.2,
    ("image", "first"): 21.5 / 28.2, ("image", "changed"): 12.9 / 9.6,
}
# (times faster than the fastest peer, at most this multiple of the floor), from the same table.
TARGETS = {
    ("usr", "first"): (2.5, None), ("usr", "no change"): (2.5, 2.0), ("usr", "restore"): (2.2, 1.3),
    ("small", "first"): (3.5, None), ("small", "no change"): (2.5, None), ("small", "restore"): (4.0, 0.7),
    ("incompressible", "first"): (3.5, None), ("incompressible", "restore"): (2.5, None),
    ("image", "first"): (2.0, None), ("image", "changed"): (5.0, None),
}
FLOOR_OF = {
    ("usr", "first"): "tar, zstd -1 -T0", ("small", "first"): "tar, zstd -1 -T0", ("incompressible", "first"): "cat",
    ("image", "first"): "zstd -1 -T0", ("usr", "no change"): "find -printf", ("small", "no change"): "find -printf",
    ("incompressible", "no change"): "find -printf", ("image", "no change"): "find -printf", ("usr", "changed"): "find -printf",
    ("small", "changed"): "find -printf", ("incompressible", "changed"): "cat", ("image", "changed"): "cat",
}


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- Measuring ------------------------------------------------------------------------------------


def server_cpu(pid):
    with open("/proc/%d/stat" % pid) as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def server_peak(pid):
    with open("/proc/%d/status" % pid) as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) << 10


def reset_server_peak(pid):
    with open("/proc/%d/clear_refs" % pid, "w") as file:
        file.write("5")


def measure(argv, environment, server_pid=None, exit_ok=(0,)):
    """Runs a command; wall and CPU seconds, peak memory of it and of the server."""
    cpu_before = 0
    if server_pid:
        reset_server_peak(server_pid)
        cpu_before = server_cpu(server_pid)
    with tempfile.TemporaryFile() as output:
        null = os.open(os.devnull, os.O_RDONLY)
        started = time.monotonic()
        pid = os.posix_spawn(argv[0], argv, environment, file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)])
        _, status, usage = os.wait4(pid, 0)
        wall = time.monotonic() - started
        os.close(null)
        code = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    result = {"wall": wall, "client_cpu": usage.ru_utime + usage.ru_stime, "client_peak": usage.ru_maxrss << 10, "exit": code}
    if server_pid:
        result["server_cpu"] = server_cpu(server_pid) - cpu_before
        result["server_peak"] = server_peak(server_pid)
    if code not in exit_ok:
        raise RuntimeError("exit %d from %s: %s" % (code, " ".join(argv[:6]), said[-600:]))
    if code != 0:
        say("  exit %d: %s" % (code, said.strip()[-200:]))
    return result


def settle():
    os.sync()


def warm(path):
    """Reads every file once, so that everything is measured with a warm page cache."""
    subprocess.run("find %s -xdev -type f -print0 | xargs -0 -r -n 500 cat > /dev/null" % quoted(path), shell=True, check=False)


def quoted(path):
    return "'" + path.replace("'", "'\\''") + "'"


# --- Places ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def fresh_target(work, size, entries):
    """An empty directory to restore to: a freshly made ext4 if we may, as old ones are slow after a delete."""
    target = os.path.join(work, "target")
    subprocess.run(["rm", "-rf", target], check=True)
    os.makedirs(target)
    image = target + ".img"
    mounted = False
    if os.geteuid() == 0:
        with open(image, "wb") as out:
            out.truncate(int(size * 1.2 + entries * 6000) + (2 << 30))
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(int(entries * 1.3) + 100_000), "-E",
                        "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image], check=True)
        mounted = subprocess.run(["mount", "-o", "loop,noatime", image, target]).returncode == 0
        settle()
    try:
        yield target, mounted
    finally:
        if mounted:
            subprocess.run(["umount", target], check=True)
        subprocess.run(["rm", "-rf", image, target], check=True)
        settle()


# --- Floors ---------------------------------------------------------------------------------------


def shell(command):
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["/bin/bash", "-o", "pipefail", "-c", command], check=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": time.monotonic() - started,
            "client_cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def floors(source, work, size, entries):
    out = {}
    packed = os.path.join(work, "floor.zst")
    path = quoted(source)
    warm(source)
    settle()
    out["cat"] = shell("find %s -xdev -type f -print0 | xargs -0 -r -n 500 cat > /dev/null" % path)
    out["find -printf"] = shell("find %s -printf '%%p %%s %%T@ %%C@ %%i %%m %%U %%G\\n' > /dev/null" % path)
    if entries > 3:
        out["tar, zstd -1 -T0"] = shell("tar -C %s -cf - . | zstd -q -1 -T0 > %s" % (path, quoted(packed)))
        out["tar, zstd -1 -T0"]["bytes"] = os.path.getsize(packed)
    else:
        only = next(datasets.regular_files(source))
        out["zstd -1 -T0"] = shell("zstd -q -1 -T0 < %s > %s" % (quoted(only), quoted(packed)))
        out["zstd -1 -T0"]["bytes"] = os.path.getsize(packed)
    os.unlink(packed)
    settle()
    with fresh_target(work, size, entries) as (target, _):
        warm(source)
        out["cp -a"] = shell("cp -a %s %s" % (path, quoted(target)))
    return out


# --- One data set ---------------------------------------------------------------------------------


class Bench:
    def __init__(self, options, chosen):
        self.options = options
        self.chosen = chosen
        self.results = []
        self.floors = []
        self.sets = {}
        self.started_tools = []

    def note(self, dataset, run, phase, tool, **values):
        entry = {"set": dataset.name, "run": run, "phase": phase, "tool": tool.name, **values}
        self.results.append(entry)
        say("  %-10s %-9s %8.2f s  client %6.2f CPU-s %5.0f MiB%s" % (
            phase, tool.name, values["wall"], values["client_cpu"], values["client_peak"] / 2**20,
            "  server %6.2f CPU-s %5.0f MiB" % (values["server_cpu"], values["server_peak"] / 2**20) if "server_cpu" in values else ""))

    def tool_order(self, run):
        turn = run % len(self.chosen)
        return self.chosen[turn:] + self.chosen[:turn]

    def backup_phase(self, dataset, run, phase, started):
        for tool in self.turned(started, PHASES.index(phase)):
            warm(dataset.path)
            settle()
            values = measure(tool.backup(dataset.path), tool.environment, tool.server_pid, tool.exit_ok)
            before = server_cpu(tool.server_pid) if tool.server_pid else 0
            settle()
            if tool.server_pid:
                # Work that the server puts off until the client is gone.
                time.sleep(1)
                values["server_cpu_afterwards"] = server_cpu(tool.server_pid) - before
            values["repository_bytes"] = tool.repository_bytes()
            values["other_bytes"] = tool.other_bytes()
            self.note(dataset, run, phase, tool, **values)

    @staticmethod
    def turned(started, by):
        by %= len(started)
        return started[by:] + started[:by]

    def restore_phase(self, dataset, run, started, size, entries):
        for tool in self.turned(started, 3):
            with fresh_target(self.options.work, size, entries) as (target, fresh):
                warm(tool.repository)
                settle()
                argv, where = tool.restore(dataset.path, target)
                values = measure(argv, tool.environment, tool.server_pid, tool.exit_ok)
                values["fresh_file_system"] = fresh
                values["equal"] = self.compare(dataset.path, where, tool)
                self.note(dataset, run, "restore", tool, **values)

    def compare(self, source, restored, tool):
        """Holdfast's restore must be equal; the others' are looked at with --check-all."""
        if self.options.no_check or (tool.name != "holdfast" and not self.options.check_all):
            return None
        flags = [] if os.geteuid() == 0 else ["--ignore-owner"]
        run = subprocess.run([sys.executable, COMPARE, source, restored, *flags], stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            say("  %s: the restore DIFFERS:\n%s" % (tool.name, run.stdout[:1000]))
        return run.returncode == 0

    def one_set(self, name):
        options = self.options
        dataset = datasets.ALL[name](os.path.join(options.work, "data"), options.scale, options.seed)
        say("%s: making it" % name)
        dataset.remove()
        os.makedirs(os.path.dirname(dataset.path), exist_ok=True)
        # In a process of its own: its memory would count as part of every client's peak.
        maker = [sys.executable, os.path.join(HERE, "datasets.py"), name, os.path.dirname(dataset.path), str(options.scale), str(options.seed)]
        subprocess.run(maker, check=True)
        settle()
        counted = subprocess.run(["find", dataset.path, "-printf", "%y %s\n"], stdout=subprocess.PIPE, text=True).stdout.splitlines()
        size = sum(int(line.split()[1]) for line in counted if line[0] == "f")
        entries = len(counted)
        del counted
        self.sets[name] = {"title": dataset.title, "bytes": size, "entries": entries, "scale": options.scale}
        try:
            for run in range(options.runs):
                say("%s: run %d of %d" % (name, run + 1, options.runs))
                self.floors.append({"set": name, "run": run, **floors(dataset.path, options.work, size, entries)})
                started = []
                self.started_tools = started
                for kind in self.tool_order(run):
                    tool = kind(os.path.join(options.work, "tools", kind.name))
                    subprocess.run(["rm", "-rf", tool.directory], check=True)
                    tool.create()
                    started.append(tool)
                for phase in PHASES[:3]:
                    if phase == "changed":
                        subprocess.run(maker + [str(run)], check=True)
                        settle()
                    if phase in options.phases:
                        self.backup_phase(dataset, run, phase, started)
                if "restore" in options.phases:
                    self.restore_phase(dataset, run, started, size, entries)
                for tool in started:
                    tool.end()
                self.started_tools = []
                self.write()
                settle()
        finally:
            self.end_tools()
            dataset.remove()
            settle()

    def end_tools(self):
        for tool in self.started_tools:
            try:
                tool.end()
            except Exception as error:  # the first failure is the one to show
                say("%s: %s" % (tool.name, error))
        self.started_tools = []

    def write(self):
        if self.options.output:
            with open(self.options.output, "w") as out:
                json.dump(self.document(), out, indent=1)

    def document(self):
        return {"machine": machine(), "date": datetime.date.today().isoformat(), "seed": self.options.seed,
                "tools": {t.name: t.version() for t in self.chosen}, "sets": self.sets, "floors": self.floors, "results": self.results}


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    memory = re.search(r"MemTotal:\s*(\d+)", open("/proc/meminfo").read())
    flags = set(re.search(r"flags\s*:\s*(.*)", open("/proc/cpuinfo").read()).group(1).split()) if cpu else set()
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(), "memory_bytes": int(memory.group(1)) << 10,
            "kernel": platform.release(), "root": os.geteuid() == 0, "vaes": "vaes" in flags,
            "load": os.getloadavg()[0]}


# --- Tables ---------------------------------------------------------------------------------------


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def table(rows):
    """Markdown, padded so that it reads well as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def report(document):
    names = list(document["tools"])
    results = document["results"]

    def value(dataset, phase, tool, key):
        return median([r.get(key) for r in results if (r["set"], r["phase"], r["tool"]) == (dataset, phase, tool)])

    def floor(dataset, which, key="wall"):
        return median([f[which].get(key) for f in document["floors"] if f["set"] == dataset and which in f])

    def seconds(v):
        return "-" if v is None else "%.2f" % v if v < 10 else "%.1f" % v

    peers = [n for n in names if n != "holdfast"]
    out = []
    m = document["machine"]
    out.append("%s, %d cores (%s), %.0f GiB, Linux %s, %s%s. %s." % (
        m["cpu"], m["cores"], "VAES" if m["vaes"] else "no VAES", m["memory_bytes"] / 2**30, m["kernel"],
        "root" if m["root"] else "ordinary user", ", load %.1f at the end" % m["load"], document["date"]))
    out.append("; ".join("%s: %s" % (n, v) for n, v in document["tools"].items()) + ".")
    for name, facts in document["sets"].items():
        out.append("\n%s: %s, %.2f GB, %s entries%s. Wall seconds, medians of %d." % (
            name, facts["title"], facts["bytes"] / 1e9, format(facts["entries"], ","),
            "" if facts["scale"] == 1 else " (scale %g)" % facts["scale"], 1 + max((f["run"] for f in document["floors"] if f["set"] == name), default=0)))
        rows = [["phase", "floor", *names, "fastest peer", "faster by", "of floor", "target"]]
        for phase in PHASES:
            walls = {n: value(name, phase, n, "wall") for n in names}
            if not any(walls.values()):
                continue
            which = "cp -a" if phase == "restore" else FLOOR_OF.get((name, phase))
            base = floor(name, which) if which else None
            against = {n: walls[n] for n in peers if walls[n] is not None}
            ratio = KOPIA_OVER_RESTIC.get((name, phase))
            if "kopia" not in names and ratio and against.get("restic"):
                against["kopia, estimated"] = against["restic"] * ratio
            fastest = min(against, key=against.get) if against else None
            own = walls.get("holdfast")
            faster = against[fastest] / own if fastest and own else None
            of_floor = own / base if own and base else None
            target, floor_target = TARGETS.get((name, phase), (None, None))
            wanted = ", ".join(filter(None, [target and "%gx" % target, floor_target and "<= %gx floor" % floor_target]))
            # Of less data, the start of each program is too large a part.
            if wanted and faster and facts["scale"] == 1:
                met = faster >= target and (not floor_target or not of_floor or of_floor <= floor_target)
                wanted += " ok" if met else " MISSED"
            rows.append([phase, "%s %s" % (which, seconds(base)) if which else "-", *(seconds(walls[n]) for n in names),
                         "%s %s" % (fastest, seconds(against[fastest])) if fastest else "-",
                         "%.1fx" % faster if faster else "-", "%.1fx" % of_floor if of_floor else "-", wanted or "-"])
        out.append(table(rows))
        rows = [["", *("%s" % n for n in names)]]
        for phase in PHASES:
            cells = []
            for n in names:
                client, server = value(name, phase, n, "client_cpu"), value(name, phase, n, "server_cpu")
                cells.append("-" if client is None else seconds(client) + ("" if server is None else " + " + seconds(server)))
            rows.append(["CPU-s, " + phase, *cells])
        for phase in PHASES:
            cells = []
            for n in names:
                client, server = value(name, phase, n, "client_peak"), value(name, phase, n, "server_peak")
                cells.append("-" if client is None else "%.0f" % (client / 2**20) + ("" if server is None else " + %.0f" % (server / 2**20)))
            rows.append(["peak MiB, " + phase, *cells])
        for phase in PHASES[:3]:
            sizes = [value(name, phase, n, "repository_bytes") for n in names]
            rows.append(["repository MB after " + phase, *("-" if s is None else "%.1f" % (s / 1e6) for s in sizes)])
        others = [value(name, "first", n, "other_bytes") for n in names]
        rows.append(["caches and indexes MB", *("-" if o is None else "%.1f" % (o / 1e6) for o in others)])
        out.append("\nClient, or client + server:\n")
        out.append(table(rows))
        rows = [["floor", "wall s", "CPU-s", "MB"]]
        for which in ("cat", "find -printf", "tar, zstd -1 -T0", "zstd -1 -T0", "cp -a"):
            if floor(name, which) is not None:
                packed = floor(name, which, "bytes")
                rows.append([which, seconds(floor(name, which)), seconds(floor(name, which, "client_cpu")), "-" if packed is None else "%.1f" % (packed / 1e6)])
        out.append("")
        out.append(table(rows))
    wrong = [r for r in results if r.get("equal") is False]
    if wrong:
        out.append("\nRESTORES THAT DIFFER FROM THE SOURCE: " + ", ".join("%s of %s" % (r["tool"], r["set"]) for r in wrong))
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Holdfast beside other backup programs.")
    parser.add_argument("--sets", default=",".join(datasets.ALL))
    parser.add_argument("--tools", default=",".join(tools.ALL), help="those that are not installed are left out and named")
    parser.add_argument("--phases", default=",".join(PHASES), help="default: " + ",".join(PHASES))
    parser.add_argument("--runs", type=int, default=1, help="repetitions, each with new repositories and another order (default 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the data (default 1)")
    parser.add_argument("--work", help="directory for everything (default: a new one in /var/tmp)")
    parser.add_argument("--output", help="JSON with every single figure")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-check", action="store_true", help="do not compare Holdfast's restores with the source")
    parser.add_argument("--check-all", action="store_true", help="compare all restores with the source")
    parser.add_argument("--report", metavar="FILE", help="only print the tables of an earlier --output")
    options = parser.parse_args()
    if options.report:
        print(report(json.load(open(options.report))))
        return
    options.phases = options.phases.split(",")
    for phase in options.phases:
        if phase not in PHASES:
            parser.error("no phase '%s'" % phase)
    chosen = []
    for name in options.tools.split(","):
        if name not in tools.ALL:
            parser.error("no tool '%s'" % name)
        if tools.ALL[name].program():
            chosen.append(tools.ALL[name])
        else:
            say("run.sh: %s is not here and left out%s" % (name, "" if name == "holdfast" else " (deploy/install-deps.sh --bench)"))
    if not chosen:
        sys.exit("run.sh: nothing to measure")
    names = options.sets.split(",")
    for name in names:
        if name not in datasets.ALL:
            parser.error("no set '%s'" % name)
    options.work = tempfile.mkdtemp(prefix="hfbench-", dir=options.work or "/var/tmp")
    if options.output:
        options.output = os.path.abspath(options.output)
    bench = Bench(options, chosen)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.sh: stopped"))
    try:
        for name in names:
            bench.one_set(name)
    finally:
        bench.end_tools()
        subprocess.run(["rm", "-rf", options.work], check=False)
    bench.write()
    print(report(bench.document()))
    if any(r.get("equal") is False for r in bench.results):
        sys.exit(1)


if __name__ == "__main__":
    main()
