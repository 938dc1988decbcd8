# SPDX-License-Identifier: MIT
"""What bench/run.py measures. A case has members that run in turn; the first is this library, whose ratio to each of the
others is what counts."""

TRANSPORTS = ("inproc", "ipc", "tcp")
DATAGRAMS = ("unixgram", "udp", "rawip")
PEERS = ("nng", "nanomsg", "zmq")


class Member:
    def __init__(self, label, program, *args):
        self.label = label
        self.program = program
        self.args = [str(a) for a in args]


class Case:
    """`figure`: the member of the result that is compared; `more`: more of it is better."""

    def __init__(self, name, what, figure, more, args, members, group, key, unit):
        self.name, self.what, self.figure, self.more = name, what, figure, more
        self.args = [str(a) for a in args]
        self.members, self.group, self.key, self.unit = members, group, key, unit
        self.transport = self.args[self.args.index("--transport") + 1]


def size_text(size):
    if size == 60000:
        return "60 KB"
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB" if size >= 1 << 10 else f"{size} B"


def latency(transport, pattern, size, pin):
    members = [Member("sp", "bench_sp"), Member("sp spin 0", "bench_sp", "--spin", 0)]
    members += [Member(p, f"bench_{p}") for p in PEERS]
    members.append(Member("floor", "bench_raw"))
    if transport == "inproc" and not pin:
        members.append(Member("floor spinning", "bench_raw", "--spin", 1))
    args = ["--transport", transport, "--pattern", pattern, "--size", size] + (["--pin"] if pin else [])
    where = "one core" if pin else "both cores"
    return Case(f"round trip {pattern} {size_text(size)} {transport}, {where}", "lat", "median_us", False, args, members,
                f"lat-{pattern}-{where.replace(' ', '-')}", f"{transport} {size_text(size)}", "µs")


def one_way(transport, size, pin, full=True):
    members = [Member("sp", "bench_sp")]
    if full:
        members.append(Member("sp batch 64", "bench_sp", "--batch", 64))
    members += [Member(p, f"bench_{p}") for p in PEERS]
    if full:
        members.append(Member("nng aio 32", "bench_nng", "--flight", 32))
    members.append(Member("zmq push", "bench_zmq", "--pattern", "pushpull"))
    members.append(Member("floor", "bench_raw"))
    args = ["--transport", transport, "--size", size] + (["--pin"] if pin else [])
    where = "one core" if pin else "both cores"
    return Case(f"one-way PAIR {size_text(size)} {transport}, {where}", "thr", "rate", True, args, members,
                f"thr-{where.replace(' ', '-')}", f"{transport} {size_text(size)}", "/s")


def one_way_datagrams(transport, size):
    """Beside the bare calls: 32 datagrams a call, and one. What is lost on the way is not counted as received."""
    members = [Member("sp", "bench_sp"), Member("sp unpacked", "bench_sp", "--packing", 0),
               Member("sp batch 64", "bench_sp", "--batch", 64),
               Member("sp unpacked batch 64", "bench_sp", "--packing", 0, "--batch", 64),
               Member("floor of 32", "bench_raw", "--batch", 32), Member("floor of 1", "bench_raw")]
    return Case(f"one-way PAIR {size_text(size)} {transport}", "thr", "rate", True,
                ["--transport", transport, "--size", size], members, "thr-datagrams", f"{transport} {size_text(size)}", "/s")


def datagram_latency(transport, size, pin):
    members = [Member("sp", "bench_sp"), Member("sp spin 0", "bench_sp", "--spin", 0), Member("floor", "bench_raw")]
    args = ["--transport", transport, "--size", size] + (["--pin"] if pin else [])
    where = "one core" if pin else "both cores"
    return Case(f"round trip PAIR {size_text(size)} {transport}, {where}", "lat", "median_us", False, args, members,
                f"lat-datagrams-{where.replace(' ', '-')}", f"{transport} {size_text(size)}", "µs")


def push(transport, size):
    members = [Member(p, f"bench_{p}") for p in ("sp",) + PEERS] + [Member("floor", "bench_raw")]
    args = ["--transport", transport, "--pattern", "pushpull", "--size", size]
    return Case(f"PUSH to PULL {size_text(size)} {transport}", "thr", "rate", True, args, members, "thr-push",
                f"{transport} {size_text(size)}", "/s")


def fan(pattern, n, transport, topics=0):
    """Many ends at one: delivered messages, or whole surveys, a second."""
    what = {"pubsub": f"PUB to {n:,}", "pushpull": f"PUSH from {n} to 1", "survey": f"SURVEY of {n}"}[pattern]
    what += f", 1 of {topics} topics wanted" if topics else ""
    members = [Member(p, f"bench_{p}") for p in ("sp",) + PEERS if pattern != "survey" or p != "zmq"]
    args = ["--transport", transport, "--pattern", pattern, "--fan", n, "--topics", topics]
    return Case(f"{what}, 64 B {transport}", "fan", "rate", True, args, members, "fan", f"{what}, {transport}", "/s")


def fans():
    cases = [fan("pubsub", n, t) for n in (1, 8) for t in TRANSPORTS] + [fan("pubsub", 1000, "ipc")]
    cases += [fan("pubsub", 8, t, topics=100) for t in TRANSPORTS]
    cases += [fan("pushpull", 4, t) for t in TRANSPORTS]
    return cases + [fan("survey", 100, t) for t in ("inproc", "ipc")]


def in_flight(transport, pin):
    flight = ["--flight", 64]
    members = [Member("sp", "bench_sp", *flight), Member("nng", "bench_nng", *flight),
               Member("zmq", "bench_zmq", *flight)]
    args = ["--transport", transport, "--pattern", "reqrep", "--size", 64] + (["--pin"] if pin else [])
    where = "one core" if pin else "both cores"
    return Case(f"64 requests in flight, 64 B {transport}, {where}", "thr", "rate", True, args, members,
                f"flight-{where.replace(' ', '-')}", f"{transport} 64 requests in flight", "/s")


def start(transport):
    members = [Member(p, f"bench_{p}") for p in ("sp",) + PEERS] + [Member("floor", "bench_raw")]
    return Case(f"start to first message {transport}", "start", "exec_us", False, ["--transport", transport], members,
                "start", transport, "µs")


def connections(transport):
    members = [Member(p, f"bench_{p}") for p in ("sp",) + PEERS]
    return Case(f"1,000 connections {transport}", "conns", "ms", False, ["--transport", transport], members, "conns",
                transport, "ms")


def quick():
    cases = [latency(t, "reqrep", 64, False) for t in TRANSPORTS]
    cases += [one_way(t, 64, False, full=False) for t in TRANSPORTS]
    return cases + [start("inproc")]


def usual():
    cases = [latency(t, "reqrep", 64, pin) for pin in (False, True) for t in TRANSPORTS]
    cases += [latency(t, "pair", 64, False) for t in TRANSPORTS]
    cases += [one_way(t, 64, pin) for pin in (False, True) for t in TRANSPORTS]
    cases += [one_way(t, size, False, full=False) for size in (1 << 10, 1 << 16, 1 << 20) for t in TRANSPORTS]
    cases += [in_flight(t, pin) for pin in (False, True) for t in TRANSPORTS]
    cases += [push(t, size) for size in (8, 64, 1 << 10, 1 << 16, 1 << 20) for t in TRANSPORTS] + fans()
    cases += [start(t) for t in TRANSPORTS]
    return cases + [connections(t) for t in ("ipc", "tcp")]


def datagrams():
    sizes = (64, 1 << 10, 60000)
    cases = [one_way_datagrams(t, s) for s in sizes for t in DATAGRAMS]
    return cases + [datagram_latency(t, s, pin) for pin in (False, True) for s in sizes for t in DATAGRAMS]


def everything():
    sizes = (8, 64, 256, 1 << 10, 4 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 20)
    cases = [latency(t, p, s, pin) for pin in (False, True) for p in ("reqrep", "pair") for s in sizes
             for t in TRANSPORTS]
    cases += [one_way(t, s, pin) for pin in (False, True) for s in sizes for t in TRANSPORTS]
    cases += [push(t, s) for s in sizes for t in TRANSPORTS] + fans()
    cases += [in_flight(t, pin) for pin in (False, True) for t in TRANSPORTS]
    cases += [start(t) for t in TRANSPORTS]
    cases += [connections(t) for t in ("ipc", "tcp")]
    return cases + datagrams()
