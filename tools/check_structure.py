#!/usr/bin/env python3
"""Checks the rules of the house that neither compiler nor Bazel knows. Prints each break; fails if there is one.

  check_structure.py layers    every production target uses only what the table "Folders" of docs/architecture.md lets
                               its folder use, and so does every include; the table names every folder with code, and
                               no other
  check_structure.py circles   production files and folders include each other without a circle
  check_structure.py sizes     no function above 80 lines but those of tools/long_functions.txt, no file of client,
                               server and storage above 500 lines without a reason in its header ("Long because ...")
  check_structure.py readmes   every folder with code has a README.md of at most 15 lines

Without an argument: all of them. Test code (testonly, *_test.cc) is under none of these rules.
"""

import collections
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

TOPS = ("core", "storage", "server", "client", "proto")
FUNCTION_LINES_MAX = 80
FILE_LINES_MAX = 500
README_LINES_MAX = 15
EXCEPTIONS = "tools/long_functions.txt"
ARCHITECTURE = "docs/architecture.md"

# Whose header it is, where headers of the system need no dependency to be found.
LIBRARY_OF_HEADER = [
    (r"rocksdb/", "rocksdb"), (r"zstd", "zstd"), (r"blake3\.h", "blake3"), (r"argon2\.h", "argon2"),
    (r"openssl/", "boringssl"), (r"httplib\.h", "httplib"), (r"grpc(\+\+|pp)?/", "grpc"), (r"CLI/", "cli11"),
    (r"nlohmann/", "nlohmann_json"), (r"prometheus/", "prometheus"), (r"toml\+\+/", "tomlplusplus"),
    (r"google/protobuf/", "protobuf"), (r"absl/", "absl"),
]
# Used everywhere: a vocabulary, not a dependency to decide about.
VOCABULARY = {"absl"}

breaks = []


def broken(rule, message):
    breaks.append(f"{rule}: {message}")


class House:
    """Production targets, as Bazel knows them."""

    def __init__(self):
        scope = " + ".join(f"//{top}/..." for top in TOPS)
        query = f"attr(testonly, 0, kind('cc_(library|binary)|_protoc', {scope}))"
        result = subprocess.run(
            ["bazel", "query", "--noshow_progress", "--noimplicit_deps", "--output=xml", query],
            capture_output=True, check=False)
        if result.returncode != 0:
            sys.exit(f"bazel query failed:\n{result.stderr.decode(errors='replace')}")
        self.deps = collections.defaultdict(set)  # folder -> {(target, label)}
        self.files = set()
        self.folders = set()
        for rule in xml.etree.ElementTree.fromstring(result.stdout).findall("rule"):
            target = rule.get("name")
            folder = target[2:].split(":")[0]
            self.folders.add(folder)
            for attribute in rule.findall("list"):
                labels = [label.get("value") for label in attribute.findall("label")]
                if attribute.get("name") in ("srcs", "hdrs", "textual_hdrs"):
                    for label in labels:
                        path = label[2:].replace(":", "/")
                        if label.startswith("//") and os.path.isfile(path):
                            self.files.add(path)
                elif attribute.get("name") == "deps":
                    self.deps[folder] |= {(target, label) for label in labels}

    def includes(self):
        """Yields (file, included path), quotes and brackets alike."""
        for path in sorted(self.files):
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
                    if match:
                        yield path, match.group(1)


# --- Layers -------------------------------------------------------------------------------------------------------


def names_in(cell):
    """`a/{b,c}`, `d` -> {"a/b", "a/c", "d"}"""
    out = set()
    for name in re.findall(r"`([^`]+)`", cell):
        braces = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
        if braces:
            out |= {braces.group(1) + middle.strip() + braces.group(3) for middle in braces.group(2).split(",")}
        else:
            out.add(name)
    return out


def read_table():
    """{folder: (folders it may use, libraries it may use)}"""
    with open(ARCHITECTURE, encoding="utf-8") as file:
        section = file.read().split("\n## Folders\n")[1].split("\n## ")[0]
    table = {}
    for line in section.splitlines():
        if not line.startswith("|") or re.fullmatch(r"[|\s-]+", line) or line.startswith("| folder |"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4:
            broken("layers", f"{ARCHITECTURE}: a row of the table has not 4 cells: {line}")
            continue
        for folder in names_in(cells[0]):
            if folder in table:
                broken("layers", f"{ARCHITECTURE}: {folder} stands in two rows")
            table[folder] = (names_in(cells[2]), names_in(cells[3]))
    return table


def may_use(allowed, folder):
    """`core/*` allows what is below core."""
    return folder in allowed or any(name.endswith("/*") and folder.startswith(name[:-1]) for name in allowed)


def library_of_header(include):
    for pattern, library in LIBRARY_OF_HEADER:
        if re.match(pattern, include):
            return library
    return None


def check_layers(house):
    table = read_table()
    for folder in sorted(house.folders - set(table)):
        broken("layers", f"{folder} has code and is not in the table of {ARCHITECTURE}")
    for folder in sorted(set(table) - house.folders):
        broken("layers", f"{folder} is in the table of {ARCHITECTURE} and has no code")

    def check(folder, used_folder, used_library, who):
        if folder not in table:
            return
        folders, libraries = table[folder]
        if used_folder and used_folder != folder and not may_use(folders, used_folder):
            broken("layers", f"{folder} may not use {used_folder}: {who}")
        if used_library and used_library not in VOCABULARY | libraries:
            broken("layers", f"{folder} may not use the library {used_library}: {who}")

    for folder, deps in house.deps.items():
        for target, label in sorted(deps):
            package = label[2:].split(":")[0]
            if package.startswith("third_party/"):
                check(folder, None, package.split("/")[1], f"{target} depends on {label}")
            elif label.startswith("//"):
                check(folder, package, None, f"{target} depends on {label}")
            else:
                broken("layers", f"{target} depends on {label}: only third_party names repositories")
    for path, include in house.includes():
        folder = os.path.dirname(path)
        used = os.path.dirname(include)
        if include.split("/")[0] in TOPS:
            check(folder, used, None, f"{path} includes {include}")
        else:
            check(folder, None, library_of_header(include), f"{path} includes {include}")


# --- Circles ------------------------------------------------------------------------------------------------------


def circles_of(graph):
    """Strongly connected components of more than one node (Tarjan 1972), without recursion."""
    index, low, on_stack, stack, out = {}, {}, set(), [], []
    for root in sorted(graph):
        if root in index:
            continue
        work = [(root, iter(sorted(graph[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in index:
                    index[successor] = low[successor] = len(index)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(sorted(graph.get(successor, ())))))
                    break
                if successor in on_stack:
                    low[node] = min(low[node], index[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    if len(component) > 1:
                        out.append(sorted(component))
    return out


def check_circles(house):
    # A header and its implementation are one file here: together they are what others use.
    files, folders = collections.defaultdict(set), collections.defaultdict(set)
    known = {os.path.splitext(path)[0] for path in house.files}
    for path, include in house.includes():
        user, used = os.path.splitext(path)[0], os.path.splitext(include)[0]
        if used not in known or user == used:
            continue
        files[user].add(used)
        if os.path.dirname(user) != os.path.dirname(used):
            folders[os.path.dirname(user)].add(os.path.dirname(used))
    for what, graph in (("files", files), ("folders", folders)):
        found = circles_of(graph)
        for circle in found:
            broken("circles", f"{what} in a circle: {', '.join(circle)}")
        edges = sum(len(used) for used in graph.values())
        print(f"import graph of {what}: {len(graph)} with {edges} arrows, {len(found)} circles")


# --- Sizes --------------------------------------------------------------------------------------------------------


def header_comment(path):
    out = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("//"):
                break
            out.append(line)
    return "".join(out)


def read_exceptions():
    """{(file, function): reason}"""
    out = {}
    with open(EXCEPTIONS, encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                path, function, reason = line.strip().split(None, 2)
                out[(path, function)] = reason
    return out


def check_sizes(house):
    code = sorted(path for path in house.files if path.endswith((".cc", ".h")))
    for path in code:
        with open(path, encoding="utf-8") as file:
            lines = len(file.read().splitlines())
        header = os.path.splitext(path)[0] + ".h"
        told = any(os.path.isfile(p) and "Long because" in header_comment(p) for p in (path, header))
        if lines > FILE_LINES_MAX and path.split("/")[0] in ("client", "server", "storage") and not told:
            broken("sizes", f"{path} has {lines} lines and does not say why")
    result = subprocess.run(
        ["ctags", "--output-format=json", "--fields=+ne", "--language-force=C++", "--kinds-C++=f", "-o", "-", "-L", "-"],
        input="\n".join(code), text=True, capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit(f"ctags failed: {result.stderr}")
    exceptions = read_exceptions()
    unused = set(exceptions)
    for line in result.stdout.splitlines():
        tag = json.loads(line)
        length = tag.get("end", tag["line"]) - tag["line"] + 1
        if length <= FUNCTION_LINES_MAX:
            continue
        if (tag["path"], tag["name"]) in exceptions:
            unused.discard((tag["path"], tag["name"]))
        else:
            broken("sizes", f"{tag['path']}:{tag['line']}: {tag['name']} has {length} lines")
    for path, function in sorted(unused):
        broken("sizes", f"{EXCEPTIONS}: {path} has no long function {function} any more")


# --- READMEs ------------------------------------------------------------------------------------------------------


def check_readmes(house):
    folders = set(house.folders) | {"tests", "tools", "deploy", "third_party"} | set(TOPS)
    for folder in sorted(folders):
        readme = os.path.join(folder, "README.md")
        if not os.path.isfile(readme):
            broken("readmes", f"{folder} has no README.md")
            continue
        with open(readme, encoding="utf-8") as file:
            lines = len(file.read().splitlines())
        if lines > README_LINES_MAX:
            broken("readmes", f"{readme} has {lines} lines, more than {README_LINES_MAX}")


CHECKS = {"layers": check_layers, "circles": check_circles, "sizes": check_sizes, "readmes": check_readmes}


def main():
    chosen = sys.argv[1:] or list(CHECKS)
    if any(name not in CHECKS for name in chosen):
        sys.exit(__doc__)
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    house = House()
    for name in chosen:
        CHECKS[name](house)
    for line in sorted(set(breaks)):
        print(line)
    print(f"structure: {len(set(breaks))} breaks" if breaks else f"structure: {', '.join(chosen)}: all rules hold")
    return 1 if breaks else 0


if __name__ == "__main__":
    sys.exit(main())
