#!/usr/bin/env python3
"""Sums gcov's counters by folder. Used by tools/coverage.sh.

coverage_report.py BIN SOURCES [--uncovered] [--floors "FOLDER=PERCENT ..."]

BIN holds the .gcno and .gcda files, SOURCES the labels of production files, one per line. A line of a header counts as
run when any file that includes it ran it. Ends with status 1 when a folder is below its floor.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile


def read_sources(path):
    with open(path, encoding="utf-8") as lines:
        return {line.strip().removeprefix("//").replace(":", "/").lstrip("/") for line in lines if line.startswith("//")}


def counters_of(notes):
    """gcov's JSON of one object file; without counters all its lines are unrun."""
    with tempfile.TemporaryDirectory() as scratch:
        result = subprocess.run(
            ["gcov", "--json-format", "--stdout", notes], cwd=scratch, capture_output=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"gcov {notes}: {result.stderr.decode(errors='replace')}")
    return [json.loads(line) for line in result.stdout.splitlines() if line.strip()]


def collect(bin_folder, sources):
    """{file: {line: times run}}"""
    notes = []
    for top in ("core", "storage", "server", "client"):
        for folder, _, names in os.walk(os.path.join(bin_folder, top)):
            notes += [os.path.join(folder, name) for name in names if name.endswith(".gcno")]
    runs = collections.defaultdict(dict)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for documents in pool.map(counters_of, notes):
            for document in documents:
                for file in document["files"]:
                    if file["file"] not in sources:
                        continue
                    lines = runs[file["file"]]
                    for line in file["lines"]:
                        number = line["line_number"]
                        lines[number] = max(lines.get(number, 0), line["count"])
    return runs


def ranges(numbers):
    """[1, 2, 3, 7] -> "1-3, 7" """
    out = []
    for number in sorted(numbers):
        if out and out[-1][1] == number - 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("sources")
    parser.add_argument("--uncovered", action="store_true")
    parser.add_argument("--floors", default="")
    args = parser.parse_args()
    floors = {folder: float(percent) for folder, percent in (item.split("=") for item in args.floors.split())}

    runs = collect(args.bin, read_sources(args.sources))
    folders = collections.defaultdict(lambda: [0, 0])
    for file, lines in runs.items():
        total = folders[os.path.dirname(file)]
        total[0] += len(lines)
        total[1] += sum(1 for count in lines.values() if count > 0)
    if not folders:
        print("coverage: no counters were found", file=sys.stderr)
        return 1

    if args.uncovered:
        for file in sorted(runs):
            unrun = [number for number, count in runs[file].items() if count == 0]
            if unrun:
                print(f"{file}: {ranges(unrun)}")
        print()
    print(f"{'folder':<28} {'lines':>7} {'run':>7} {'share':>7}")
    low = []
    for folder in sorted(folders):
        lines, run = folders[folder]
        share = 100 * run / lines if lines else 100
        print(f"{folder:<28} {lines:>7} {run:>7} {share:>6.1f}%")
        if share < floors.get(folder, 0):
            low.append(f"{folder} has {share:.1f} %, less than {floors[folder]:.0f} %")
    for folder in sorted(set(floors) - set(folders)):
        low.append(f"{folder} has a floor and no code")
    for line in low:
        print(f"coverage: {line}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
