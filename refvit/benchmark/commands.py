"""What ``refvit bench`` does: models and their peers, or kernels; the measuring is in bench.py and products.py."""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import kernels
from ..backend import check_backend
from ..box import by_name
from ..commands import is_name, print_json, refuse
from ..config import QuantConfig, config_to_dict
from ..engine import Engine, pack
from ..errors import UnsupportedError, UsageError
from ..model import create_model
from ..progress import Progress
from ..registry import MODELS
from ..weights import load_model
from . import machine, products
from .bench import ROOT, Entry, Group, engine_entry

DEFAULT_MODELS = (
    "deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224",
    "swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224",
)  # fmt: skip
PEER_SCRIPT = ROOT / "tools" / "bench_peers.py"
TOO_MANY = "more threads than cores, so their times say little"
SAME_START = "refvit starts from uint8 pixels, peers from normalised float32 pictures; threads are the same for all"
AMX = {True: "this CPU has AMX", False: "this CPU has none", None: "whether this CPU has it cannot be told"}


def bench(args):
    """Time models or kernels; an interruption leaves what was measured."""
    check(args)
    if args.backend is not None:
        check_backend(args.backend)
    result = {
        "complete": False, "rounds": args.rounds, "machine": machine.describe(), "notes": [], "peers": [],
        "results": [], "ratios": [], "kernels": [], "limits": [],
    }  # fmt: skip
    models = [] if args.kernels else [Subject(name, args) for name in args.models or DEFAULT_MODELS]
    if not args.json:
        print(f"{result['machine']['cpu']}, {result['machine']['cores']} cores")
    if max(thread_counts(args)) > result["machine"]["cores"]:
        note(args, result, f"{TOO_MANY}: this process may use {result['machine']['cores']}")
    try:
        bench_kernels(args, result) if args.kernels else bench_models(models, args, result)
        result["complete"] = True
    except KeyboardInterrupt:
        if args.json:
            print_json(result)
        raise
    if args.json:
        print_json(result)


def check(args):
    """Options that would silently do nothing are refused."""
    if args.kernels:
        refuse(args, "with --kernels", ("batch", "weight_bits", "peer_python", "peer_script"))
        for name, given in (("MODEL", args.models), ("--peers", args.peers)):
            if given:
                raise UsageError("bench", f"{name} means nothing with --kernels")
        return
    refuse(args, "without --kernels", ("products",))
    if not args.peers:
        refuse(args, "without --peers", ("peer_python", "peer_script"))
    if args.act_bits and min(args.act_bits) < 2:
        raise UsageError("bench", "--act-bits", "2 to 8 for a model", min(args.act_bits))


def thread_counts(args):
    """Those asked for, or one and all."""
    return args.threads or sorted({1, kernels.threads()})


def bench_kernels(args, result):
    """Products of every shape, on every backend."""
    backends = [args.backend] if args.backend else kernels.backends()
    rows = products.plan(args.products or products.PRODUCTS, args.act_bits or products.BITS, backends)
    result["limits"] = products.limits(backends)
    show(args, map(limit_line, result["limits"]))
    tick = ticker("products", len(thread_counts(args)) * args.rounds * len(rows))
    for threads in thread_counts(args):
        times = [[] for _ in rows]
        try:
            products.measure(rows, threads, args.rounds, tick, times)
        finally:
            found = [products.result(row, threads, its) for row, its in zip(rows, times) if its]
            result["kernels"] += found
            show(args, map(kernel_line, found))


def limit_line(row):
    bits = "1 bit" if row["family"] == "popcount" else "8 bits"
    return f"limit of the instructions: {row['backend']} {row['family']}, {bits}: {row['gops']:.0f} GOP/s on one core"


def kernel_line(row):
    name = f"{row['product']}{' ' + row['family'] if row['family'] else ''} {row['bits']} bit{'s' * (row['bits'] > 1)}"
    shape = f"{row['m']:5} x {row['k']:4} x {row['n']:4}"
    return (
        f"{shape}  {name:23} {row['backend']:10} threads {row['threads']:<2} {row['ms']:9.3f} ms "
        f"({row['ms_low']:.3f} to {row['ms_high']:.3f})  {row['gops']:8.1f} GOP/s"
    )


def bench_models(models, args, result):
    """Every model, batch and number of threads: all forms of refvit, and the peers, in turns."""
    peers = find_peers(args, result)
    groups, threads = list(itertools.product(models, args.batch or [1])), thread_counts(args)
    count = sum(len(m.forms) for m, _ in groups) + len(groups) * len([p for p in peers if p["why"] is None])
    tick = ticker("bench", (1 + args.rounds) * len(threads) * count)
    for model, batch in groups:
        with tempfile.TemporaryDirectory(prefix="refvit-bench-") as cache:
            for t in threads:
                entries = [engine_entry(model.packed(q, cache), q, batch, t, args.backend) for q in model.forms]
                alive = [p for p in peers if p["why"] is None]
                entries += [peer_entry(args, p, model, batch, t, cache) for p in alive]
                run_group(args, result, Group(model.name, batch, t, entries, left_out(peers)), tick)


def run_group(args, result, group, tick):
    try:
        group.run(args.rounds, tick)
    finally:
        rows, ratios = group.rows(), group.ratios()
        result["results"] += rows
        result["ratios"] += ratios
        show(args, [*(model_line(row, result["machine"]["cpu"]) for row in rows), *map(ratio_line, ratios)])


def model_line(row, cpu):
    memory = "" if row["peak_mb"] is None else f"{row['peak_mb']:6.0f} MB"
    times = f"{row['ms_per_picture']:8.2f} ms ({row['ms_per_picture_low']:.2f} to {row['ms_per_picture_high']:.2f})"
    return (
        f"{row['model']:29} batch {row['batch']:<2} threads {row['threads']:<2} {row['engine'] + ' ' + row['form']:17}"
        f"{times} a picture  {row['pictures_per_second']:7.1f}/s  {memory}  {row['kernel']}, {cpu}"
    )


def ratio_line(row):
    where = f"{row['model']:29} batch {row['batch']:<2} threads {row['threads']:<2}"
    spread = f"({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
    return f"{where} {row['ours']} / {row['other']}: {row['ratio']:.2f} {spread}"


class Subject:
    """A model to time: a registered name with seeded weights, a checkpoint, or a packed file as it is."""

    def __init__(self, name, args):
        named = is_name(argparse.Namespace(verb="bench", model=name, name=None, seed=None))
        self.path, self.name, self.source = name, Path(by_name(name)).name, None if named else load_model(name)
        self.config = MODELS[name] if named else self.source.config
        bits = itertools.product(args.weight_bits or (2, 8), args.act_bits or (8,))
        self.forms = [QuantConfig(weight_bits=w, act_bits=a) for w, a in dict.fromkeys(bits)]
        if isinstance(self.source, Engine):
            refuse(args, f"with the packed file {name}", ("weight_bits", "act_bits"))
            self.forms = [self.source.quant]

    def packed(self, quant, folder):
        """The packed file of a form, made in the folder where it is not there."""
        if isinstance(self.source, Engine):
            return os.path.abspath(self.path)
        path = os.path.join(folder, f"w{quant.weight_bits}a{quant.act_bits}.safetensors")
        if not os.path.exists(path):
            source = create_model(self.path) if self.source is None else self.source
            pack(source.with_quant(quant)).save(path)
        return path


def find_peers(args, result):
    """The peers that the script knows, those that are not installed said aloud.  -> list of rows, "why" None: usable"""
    if not args.peers:
        return []
    note(args, result, f"the goals against peers hold for CPUs without AMX: {AMX[result['machine']['amx']]}")
    note(args, result, SAME_START)
    command = [args.peer_python or sys.executable, str(args.peer_script or PEER_SCRIPT), "--list"]
    if not os.path.isfile(command[1]):
        hint = "--peer-script FILE, from the sources' tools/"
        raise UnsupportedError(command[1], "no such script of peers", hint=hint)
    try:
        found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UnsupportedError(command[0], f"cannot list the peers: {error}") from None
    result["peers"] = found
    for peer in found:
        if peer["why"] is not None:
            say_left_out(peer)
    return found


def say_left_out(peer):
    print(f"refvit: peer {peer['engine']} {peer['form']} is left out: {peer['why']}", file=sys.stderr)


def left_out(peers):
    """What a group calls when a peer fails: it is said, and not tried again."""

    def absent(entry, error):
        peer = next(p for p in peers if (p["engine"], p["form"]) == (entry.engine, entry.form))
        peer["why"] = str(error)
        say_left_out(peer)

    return absent


def peer_entry(args, peer, model, batch, threads, cache):
    """A peer on a model's architecture."""
    spec = {
        "engine": peer["engine"], "form": peer["form"], "config": config_to_dict(model.config), "batch": batch,
        "threads": threads, "cache": cache,
    }  # fmt: skip
    command = (args.peer_python or sys.executable, str(args.peer_script or PEER_SCRIPT), json.dumps(spec))
    return Entry(peer["engine"], peer["form"], peer["weight_bits"], peer["act_bits"], command)


def note(args, result, text):
    """What one must know of the numbers."""
    result["notes"].append(text)
    show(args, [f"note: {text}"])


def show(args, lines):
    """Lines of results, as they come; with --json the object at the end has them."""
    if not args.json:
        for line in lines:
            print(line, flush=True)


def ticker(what, total):
    """A function to call after each of ``total`` steps; it reports progress on stderr."""
    meter, done = Progress(sys.stderr, what, total), itertools.count(1)
    return lambda: meter.update(next(done))
