#!/usr/bin/env python3
"""Reads JSON (one value, or one per line) from a file and prints what an expression makes of it.

    json_get.py FILE [EXPRESSION]

In the expression `d` is the value (a list of values if there was one per line), ids(d) all snapshot
ids in it, strings(d) all strings, numbers(d, name) all numbers under a key. A list prints one item
per line. Without expression the file is only parsed. Exit status 1 and a message if it is not JSON.
"""

import json
import re
import sys


def walk(value, key=None):
    yield key, value
    if isinstance(value, dict):
        for k, v in value.items():
            yield from walk(v, k)
    elif isinstance(value, list):
        for v in value:
            yield from walk(v, key)


def ids(value):
    return [v for k, v in walk(value) if k in ("id", "snapshot_id") and isinstance(v, str) and re.fullmatch("[0-9a-f]{64}", v)]


def strings(value):
    return [v for _, v in walk(value) if isinstance(v, str)]


def numbers(value, name):
    # Protobuf's JSON mapping writes 64-bit integers as strings.
    return [int(v) for k, v in walk(value) if k == name and isinstance(v, (int, str)) and re.fullmatch(r"-?\d+", str(v))]


def parse(text):
    try:
        return json.loads(text)
    except ValueError as first:
        try:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            lines = []
        if not lines:
            raise first
        return lines


def main():
    text = open(sys.argv[1], encoding="utf-8", errors="strict").read()
    try:
        d = parse(text)
    except ValueError as error:
        sys.exit("json_get.py: not JSON (%s): %s" % (error, text[:200]))
    if len(sys.argv) < 3:
        return
    result = eval(sys.argv[2], {"d": d, "ids": ids, "strings": strings, "numbers": numbers, "re": re})
    for item in result if isinstance(result, list) else [result]:
        print(item)


if __name__ == "__main__":
    main()
