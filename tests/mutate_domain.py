"""Mutation testing of the rooms that everything rests on: which small change of the code does no test notice?

make mutate                        every room (some minutes)
make mutate MUTATE="gate --jobs 1" one room

Every mutant runs in a process of its own, forked from one that has imported the libraries. It stops at the
first test that fails. A script of our own, since mutmut skips most decorated functions, properties among
them, and cosmic-ray starts a process for each test run.

Not mutated, since only people or type checkers read them: docstrings, f-strings and texts with a space in
them, annotations, decorators, assertions, ``__slots__``, ``TYPE_CHECKING`` blocks.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
CPU_SECONDS = 60
ROOMS: dict[str, tuple[str, str]] = {
    "table": ("jobs", "jobs state approvals superseding"),
    "chain": ("sealing", "sealing validation anchors"),
    "gate": ("judgement promotion validation", "promotion validation judgement checks approvals"),
    "claims": ("claims spending guardrails student", "claims spending guardrails student judgement"),
    "checks": ("checks", "checks known_mistakes lifecycle"),
    "watch": ("watch watching", "watch"),
    "sequential": ("sequential sample_ratio", "sample_ratio sequential"),
    "fold": (
        "fold fold_step look_entries champion_entries job_entries canary_entries watch_entries "
        "state steadiness codec",
        "state validation looks lifecycle rollback idle side_by_side requests approvals floor_alarm watch "
        "canary limits power in_short",
    ),
}  # files of domain/; files of tests/domain/, the quickest to notice first

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
STATES = ("PENDING", "RUNNING", "VALIDATION", "DEPLOYING", "COMPLETED", "FAILED", "CANCELLED")
UNREAD = {"annotation", "returns", "decorator_list"}  # fields that no test could notice


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the place, and the module's tree with it."""

    file: str
    line: int
    change: str
    tree: ast.Module


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Other nodes that could stand in the place of this one."""
    yield from _other_operators(node)
    yield from _other_values(node)
    yield from _less(node)


def _but(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _other_operators(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPPED:
            yield _but(node, ops=[SWAPPED[type(op)]()])
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPPED:
            yield _but(node, op=SWAPPED[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.IfExp(body=body, orelse=orelse):
            yield _but(node, body=orelse, orelse=body)
        case ast.If(test=test):
            yield _but(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[test]):
            yield _but(node, ifs=[ast.UnaryOp(ast.Not(), test)])


def _other_values(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool(value)):
            yield _but(node, value=not value)
        case ast.Constant(value=int() | float() as value):
            yield _but(node, value=value + 1)
        case ast.Constant(value=str(value)) if " " not in value:
            yield _but(node, value=f"{value}XX")
        case ast.Constant(value=None):
            yield _but(node, value="XX")
        case ast.Attribute(value=ast.Name(id="JobStatus"), attr=attr):
            yield _but(node, attr=STATES[(STATES.index(attr) + 1) % len(STATES)])


def _less(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Call(keywords=keywords):
            for given in keywords:
                yield _but(node, keywords=[other for other in keywords if other is not given])
        case ast.Set(elts=elements) if len(elements) > 1:
            for element in elements:
                yield _but(node, elts=[other for other in elements if other is not element])
        case ast.Return(value=ast.AST() as value) if not isinstance(value, ast.Constant):
            yield _but(node, value=ast.Constant(None))
        case ast.Raise() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield ast.Pass()


def sites(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node that a test could notice, with where it hangs: parent, field, index."""
    for name, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST) and name not in UNREAD and not _for_people(child):
                yield node, name, index, child
                yield from sites(child)


def _for_people(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return text or typing or isinstance(node, ast.JoinedStr | ast.Assert | ast.ImportFrom | ast.Import)


def mutants(file: str) -> Iterator[Mutant]:
    """Every mutant of a file of the domain, in the order of its lines."""
    tree = ast.parse((ROOT / file).read_text())
    for parent, name, index, node in sites(tree):
        whole = getattr(parent, name)
        for other in changes(node):
            if index is None:
                setattr(parent, name, other)
            else:
                setattr(parent, name, [*whole[:index], other, *whole[index + 1 :]])
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            text = f"`{_brief(node)}` -> `{_brief(other)}`"
            yield Mutant(file, line, text, ast.fix_missing_locations(copy.deepcopy(tree)))
            setattr(parent, name, whole)


def _brief(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:70]} ... {text[-15:]}"


def warm(tests: list[str]) -> None:
    """Import every library that the tests need, and forget what is ours: a mutant loads that anew."""
    hypothesis.settings.register_profile("mutate", derandomize=True, database=None, max_examples=25)
    hypothesis.settings.load_profile("mutate")
    _pytest([*tests, "--collect-only", "-qq"])
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        ours = name.split(".")[0] in ("autoretrain", "tests") or file.startswith(str(ROOT / "tests"))
        if ours and name != "__main__":
            del sys.modules[name]


def _pytest(arguments: list[str]) -> int:
    plugins = [
        word for name in ("randomly", "xdist", "cov", "cacheprovider") for word in ("-p", f"no:{name}")
    ]
    return int(pytest.main(["-x", "--tb=no", "-q", "--no-header", "-W", "ignore", *plugins, *arguments]))


def start(mutant: Mutant | None, tests: list[str]) -> int:
    """Fork a process that runs the tests against a mutant; without one, against the code as it is."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        if mutant is not None:
            _put_in_place(mutant)
        status = _pytest(tests)
    finally:
        os._exit(status)


def _put_in_place(mutant: Mutant) -> None:
    """Let the import system find the mutant where the file is. Only this process sees it."""
    original, ending = SourceFileLoader.get_code, f"/autoretrain/{mutant.file}"

    def get_code(self: SourceFileLoader, name: str) -> object:
        if self.path.endswith(ending):
            return compile(mutant.tree, self.path, "exec")
        return original(self, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def outcome(status: int) -> str:
    """What the end of a mutant's process says."""
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "killed"
    # 1: a test failed; 2: the mutant cannot be imported. Anything else is no answer of the tests.
    return {0: "survived", 1: "killed", 2: "killed"}.get(os.WEXITSTATUS(status), "error")


def run(todo: list[Mutant], tests: list[str], jobs: int) -> list[tuple[Mutant, str]]:
    """Run mutants, a few at a time."""
    running: dict[int, Mutant] = {}
    done: list[tuple[Mutant, str]] = []
    waiting = iter(todo)
    while len(done) < len(todo):
        while len(running) < jobs and (mutant := next(waiting, None)) is not None:
            running[start(mutant, tests)] = mutant
        process, status = os.wait()
        done.append((running.pop(process), outcome(status)))
        if not len(done) % 25:
            print(f"  {len(done)} of {len(todo)}", file=sys.stderr, flush=True)
    return done


def table(done: list[tuple[Mutant, str]]) -> Iterator[str]:
    """A line a file, and the survivors."""
    yield "| file | mutants | killed | survived | timeouts | errors | killed % |"
    yield "|---|---|---|---|---|---|---|"
    for file in dict.fromkeys(mutant.file for mutant, _ in done):
        ends = [end for mutant, end in done if mutant.file == file]
        killed, survived, timeouts = (ends.count(end) for end in ("killed", "survived", "timeout"))
        share, errors = (killed + timeouts) / len(ends), ends.count("error")
        yield f"| `{file}` | {len(ends)} | {killed} | {survived} | {timeouts} | {errors} | {share:.1%} |"
    for mutant, end in sorted(done, key=lambda pair: (pair[0].file, pair[0].line)):
        if end in ("survived", "error"):
            yield f"- {end}: {mutant.file}:{mutant.line}: {mutant.change}"


def main() -> int:
    """Run the rooms asked for; 1 when one is below what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "rooms", nargs="*", metavar="room", help=f"any of {', '.join(ROOMS)}; all unless said"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument(
        "--at-least", type=float, default=90.0, metavar="PERCENT", help="killed in a room (90)"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each Nth mutant only (1)")
    asked = parser.parse_args()
    if unknown := set(asked.rooms) - set(ROOMS):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    for option, number in (("--jobs", asked.jobs), ("--every", asked.every)):
        if number < 1:
            parser.error(f"{option} {number}: at least 1")
    os.chdir(ROOT)
    return max([_room(room, asked) for room in asked.rooms or ROOMS])


def _room(room: str, asked: argparse.Namespace) -> int:
    files, names = ROOMS[room]
    tests = [f"tests/domain/test_{name}.py" for name in names.split()]
    warm(tests)
    _, status = os.waitpid(start(None, tests), 0)
    if status:
        print(f"{room}: its tests fail without any mutant; run pytest {' '.join(tests)}", file=sys.stderr)
        return 1
    begun = time.monotonic()
    todo = [mutant for file in files.split() for mutant in mutants(f"domain/{file}.py")]
    done = run(todo[:: asked.every], tests, asked.jobs)
    share = 100 * sum(end in ("killed", "timeout") for _, end in done) / len(done)
    took = time.monotonic() - begun
    print(
        f"\n## {room}: {share:.1f} % of {len(done)} mutants killed, in {took:.0f} s\n", *table(done), sep="\n"
    )
    return int(share < asked.at_least)


if __name__ == "__main__":
    sys.exit(main())
