#!/usr/bin/env python3
"""Prints "N passed, M failed" for a `bazel test --build_event_json_file=FILE` run.

Counts GoogleTest cases, not programs. A program that crashes, times out or does not build counts as
one failure, on top of the cases it reported. Skipped cases do not count.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree


def count_cases(path):
    """Returns (passed, failed) of one test.xml, or None if it holds no cases."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return None
    passed = failed = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (case.get("result") not in ("skipped", "suppressed")
              and case.get("status") != "notrun" and case.find("skipped") is None):
            passed += 1
    return passed, failed


def main():
    passed = failed = 0
    for line in open(sys.argv[1]):
        event = json.loads(line)
        if "testResult" in event["id"]:
            result = event["testResult"]
            cases = None
            for output in result.get("testActionOutput", []):
                if output["name"] == "test.xml":
                    cases = count_cases(urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path))
            case_passed, case_failed = cases or (0, 0)
            good = result.get("status") == "PASSED"
            if good and cases is None:
                case_passed = 1
            if not good and case_failed == 0:
                case_failed = 1
            passed += case_passed
            failed += case_failed
            if not good:
                print("%s: %s" % (event["id"]["testResult"]["label"], result.get("status")),
                      file=sys.stderr)
        elif "targetCompleted" in event["id"]:
            if not event.get("completed", {}).get("success", False) and "aborted" not in event:
                print("%s does not build" % event["id"]["targetCompleted"]["label"],
                      file=sys.stderr)
                failed += 1
    print("%d passed, %d failed" % (passed, failed))


main()
