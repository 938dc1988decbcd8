#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the bench programs and compares: the members of a case run in turn (A B A B), a round after a round, so that what
else the machine does hits all of them; a ratio is taken within a round. Prints each figure with its least and most, writes
results.json and plots to BUILD/bench-results, and refreshes the tables of a document between its markers."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import cases as bench_cases
from plot import bars, number


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--build", default="build/release", help="build directory (build/release)")
    p.add_argument("--set", default="usual", choices=("quick", "usual", "datagrams", "everything"),
                   help="which cases (usual; with --transports everything)")
    p.add_argument("--pairs", type=int, default=5, help="rounds of each case (5)")
    p.add_argument("--seconds", type=float, default=0.3, help="that are measured each time (0.3)")
    p.add_argument("--warmup", type=float, default=0.08, help="seconds before (0.08)")
    p.add_argument("--only", default="", help="only cases whose name has this regular expression")
    p.add_argument("--transports", default="", help="only cases of these, with commas between")
    p.add_argument("--doc", default="", help="document whose tables are refreshed")
    p.add_argument("--from", dest="source", default="", help="no runs: show this results.json")
    p.add_argument("--list", action="store_true", help="list the cases")
    return p.parse_args()


def run(member, case, args):
    """One measurement: the program's JSON, or None with a line that says why."""
    command = [os.path.join(args.build, "bench", member.program), case.what, "--seconds", str(args.seconds), "--warmup",
               str(args.warmup)] + case.args + member.args
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return json.loads(done.stdout)
        why = done.stderr.strip() or f"exit code {done.returncode}"
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as e:
        why = str(e)
    print(f"  {member.label}: failed: {why}", file=sys.stderr)
    return None


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def possible(member, case, args):
    """The program is there, and of this library's own programs the transport too."""
    foreign = member.program not in ("bench_sp", "bench_actors")
    return os.access(os.path.join(args.build, "bench", member.program), os.X_OK) and (
        foreign or os.path.exists(os.path.join(args.build, "transports", case.transport + ".so")))


def measure(case, args):
    """All rounds of a case as {label: …}."""
    members = [m for m in case.members if possible(m, case, args)]
    rounds = [{m.label: run(m, case, args) for m in members} for _ in range(args.pairs)]
    own = case.members[0].label
    result = {"name": case.name, "group": case.group, "key": case.key, "unit": case.unit, "figure": case.figure,
              "more": case.more, "members": {}}
    for m in members:
        got = [r for r in rounds if r[m.label]]
        if not got:
            continue
        entry = {k: summary([r[m.label][k] for r in got]) for k, v in got[0][m.label].items()
                 if isinstance(v, (int, float)) and not isinstance(v, bool)}
        pairs = [(r[own][case.figure], r[m.label][case.figure]) for r in got if r.get(own)]
        # Above 1: this library is better.
        ratios = [(a / b if case.more else b / a) for a, b in pairs if a > 0 and b > 0]
        if ratios and m.label != own:
            entry["ratio"] = summary(ratios)
        cpu = [r[m.label]["cpu_us"] / r[own]["cpu_us"] for r in got if r.get(own) and r[own].get("cpu_us")]
        if cpu and m.label != own:
            entry["cpu_ratio"] = summary(cpu)
        entry["runs"] = [r[m.label] for r in got]
        result["members"][m.label] = entry
    return result


def figure(entry, name, spread=True):
    if name not in entry:
        return "–"
    s = entry[name]
    text = number(s["median"])
    return f"{text} ({number(s['min'])}–{number(s['max'])})" if spread else text


HEADS = {
    "lat": (("median", "median_us"), ("p99", "p99_us"), ("CPU µs", "cpu_us"), ("switches", "switches")),
    "thr": (("a second", "rate"), ("MB/s", "mb_s"), ("CPU µs", "cpu_us"), ("switches", "switches")),
    "fan": (("delivered a second", "rate"), ("sent", "one_rate"), ("CPU µs", "cpu_us"), ("switches", "switches")),
    "start": (("from exec, µs", "exec_us"), ("from main, µs", "main_us"), ("threads", "threads_running")),
    "flight": (("a second", "rate"), ("CPU µs", "cpu_us"), ("switches", "switches")),
    "conns": (("ms", "ms"), ("dialer bytes", "dialer_bytes"), ("listener bytes", "listener_bytes"),
              ("fds", "dialer_fds"), ("threads", "dialer_threads")),
}


def table(results):
    """Markdown: a line a member, its figures, and how many times better this library is."""
    kind = results[0]["group"].split("-")[0]
    head = HEADS[kind]
    ratios = [("sp is better by", "ratio")] + ([("in CPU by", "cpu_ratio")] if kind in ("lat", "thr", "flight", "fan") else [])
    lines = ["| | | " + " | ".join(h for h, _ in head + tuple(ratios)) + " |", "|---|---|" + "---|" * len(head + tuple(ratios))]
    for r in results:
        key = r["key"]
        for label, entry in r["members"].items():
            cells = [figure(entry, name, spread=i == 0) for i, (_, name) in enumerate(head)]
            cells += [("×" if name in entry else "") + figure(entry, name) for _, name in ratios]
            lines.append(f"| {key} | {label} | " + " | ".join(cells) + " |")
            key = ""
    return "\n".join(lines) + "\n"


TITLES = {"lat": "Round trip", "thr": "One-way", "flight": "64 requests in flight", "fan": "Many ends at one",
          "start": "Start to first message", "conns": "1,000 connections"}


def groups(results):
    found = {}
    for r in results:
        if r["members"]:
            found.setdefault(r["group"], []).append(r)
    return found


def write_plots(results, folder):
    for name, rows in groups(results).items():
        labels = list(dict.fromkeys(label for r in rows for label in r["members"]))
        data = [(r["key"], {label: tuple(e[r["figure"]][k] for k in ("median", "min", "max"))
                            for label, e in r["members"].items()}) for r in rows]
        title = TITLES[name.split("-")[0]] + " " + " ".join(name.split("-")[1:])
        with open(os.path.join(folder, name + ".svg"), "w", encoding="utf-8") as f:
            f.write(bars(title.strip(), rows[0]["unit"], data, labels))


def counts_table():
    """The figures that CI compares (tests/count/check.sh)."""
    with open(os.path.join(os.path.dirname(__file__), "..", "tests", "count", "expected.json"), encoding="utf-8") as f:
        counts = json.load(f)
    lines = [f"| {name} | {c['instructions']:,.0f} | {c['syscalls']:.2f} |" for name, c in counts.items()]
    return "\n".join(["| scenario | instructions | system calls |", "|---|---|---|"] + lines) + "\n"


def refresh(path, results, about):
    """Replaces what stands between <!-- bench:begin NAME --> and <!-- bench:end -->."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    tables = {name: table(rows) for name, rows in groups(results).items()}
    tables["about"] = about + "\n"
    tables["counts"] = counts_table()
    for name, body in tables.items():
        pattern = re.compile(rf"(<!-- bench:begin {re.escape(name)} -->\n).*?(<!-- bench:end -->)", re.S)
        text = pattern.sub(lambda m, b=body: m.group(1) + b + m.group(2), text)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def machine(args):
    return {"cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(), "arch": platform.machine(),
            "load": os.getloadavg()[0], "pairs": args.pairs, "seconds": args.seconds,
            "date": time.strftime("%Y-%m-%d", time.gmtime())}


def about_text(m):
    return (f"{m['date']}: {m['cpus']} CPUs ({m['arch']}, Linux {m['kernel']}), load {m['load']:.1f} at the beginning and "
            f"{m.get('load_end', m['load']):.1f} at the end, {m['pairs']} rounds of {m['seconds']} s a figure.")


def main():
    args = arguments()
    chosen = getattr(bench_cases, "everything" if args.transports else args.set)()
    chosen = [c for c in chosen if re.search(args.only, c.name)]
    if args.transports:
        chosen = [c for c in chosen if c.transport in args.transports.split(",")]
    if args.list:
        print("\n".join(c.name for c in chosen))
        return 0
    if args.source:
        with open(args.source, encoding="utf-8") as f:
            data = json.load(f)
    else:
        build = os.path.abspath(args.build)
        os.environ["SP_PLUGIN_PATH"] = f"{build}/plugins:{build}/transports"
        data = {"machine": machine(args), "results": []}
        begun = time.time()
        for i, case in enumerate(chosen):
            print(f"[{i + 1}/{len(chosen)}, {time.time() - begun:.0f} s] {case.name}", file=sys.stderr)
            data["results"].append(measure(case, args))
        data["machine"]["load_end"] = os.getloadavg()[0]
    results = data["results"]
    for name, rows in groups(results).items():
        print(f"\n## {name}\n")
        print(table(rows))
    print(about_text(data["machine"]))
    folder = os.path.join(args.build, "bench-results")
    os.makedirs(folder, exist_ok=True)
    if not args.source:
        with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as f:
            json.dump(data, f, indent=1)
    write_plots(results, folder)
    if args.doc:
        refresh(args.doc, results, about_text(data["machine"]))
    return 0 if any(r["members"] for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
