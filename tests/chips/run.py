"""Runs exported networks on emulated chips, compares every byte with the desktop, and measures what they cost.

    python tests/chips/run.py           200 sequences a network on every chip, and the table of costs
    python tests/chips/run.py --sequences 10000 --saturated 1000000    the full proof
    python tests/chips/run.py --chips cortex-m4 riscv32 --only lstm
    python tests/chips/run.py --update  also writes the table into docs/edge-benchmarks.md

Needs, from Debian: gcc-arm-none-eabi qemu-system-arm (Cortex-M), clang lld qemu-user (RISC-V, WebAssembly),
g++-aarch64-linux-gnu (64-bit ARM), nodejs (WebAssembly). No C library of theirs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import networks as nets

from lstmcore.edge.export import write_c
from lstmcore.edge.program import Program

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "edge-benchmarks.md"
WARNINGS = "-Wall -Wextra -Wconversion -Wshadow -pedantic -Werror"
# A program without a C library, but the compiler may still know what memcpy does.
BARE = f"-std=c99 -ffreestanding -fbuiltin -ffunction-sections -fdata-sections -I{HERE}/include"


@dataclasses.dataclass(frozen=True)
class Chip:
    """How to compile and run for one processor. title: for the table; costs: whether its costs are in the table."""

    title: str
    compiler: str
    flags: str
    link: str
    runner: str  # {elf}: the program, {plugin}: options that load the counting plugin, or nothing
    nm: str = ""
    costs: bool = False


def _cortex(title: str, cpu: str, board: str, code: str = "0,4M", ram: str = "0x20000000,4M") -> Chip:
    (code_at, code_size), (ram_at, ram_size) = code.split(","), ram.split(",")
    memory = f"CODE={code_at},--defsym=CODE_SIZE={code_size},--defsym=RAM={ram_at},--defsym=RAM_SIZE={ram_size}"
    return Chip(
        title=title,
        compiler="arm-none-eabi-gcc",
        flags=f"-mthumb {cpu} {BARE}",
        link=f"-nostdlib -Wl,--gc-sections -T {HERE}/chip.ld -Wl,--defsym={memory} -lgcc",
        runner=f"qemu-system-arm -M {board} -nographic -monitor none -serial none "
        "-semihosting-config enable=on,target=native -kernel {elf} {plugin}",
        nm="arm-none-eabi-nm",
        costs=True,
    )


def _user(title: str, compiler: str, flags: str, emulator: str, link: str = "") -> Chip:
    return Chip(
        title=title,
        compiler=compiler,
        flags=f"{flags} {BARE}",
        link=f"-nostdlib -static -Wl,--gc-sections {link}",
        runner=f"{emulator} {{plugin}} {{elf}}",
        nm="nm",
        costs=True,
    )


def _host(title: str, compiler: str, flags: str) -> Chip:
    return Chip(title, compiler, flags, "", "{elf}")


_HARD, _RISCV = "-mfloat-abi=hard", "--target=riscv"
_SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
CHIPS = {
    # Nothing emulates this processor with enough memory; its instructions are a part of those of the next.
    "cortex-m0": dataclasses.replace(_cortex("Cortex-M0", "-mcpu=cortex-m0", "mps2-an385"), costs=False),
    "cortex-m3": _cortex("Cortex-M3", "-mcpu=cortex-m3", "mps2-an385"),
    "cortex-m4": _cortex("Cortex-M4", f"-mcpu=cortex-m4 {_HARD}", "mps2-an386"),
    "cortex-m7": _cortex("Cortex-M7", f"-mcpu=cortex-m7 {_HARD}", "mps2-an500"),
    "cortex-m33": _cortex("Cortex-M33", f"-mcpu=cortex-m33 {_HARD}", "mps2-an505", "0x10000000,4M", "0x38000000,4M"),
    "cortex-m55": _cortex("Cortex-M55", f"-mcpu=cortex-m55 {_HARD}", "mps3-an547", "0,512K", "0x20000000,512K"),
    "riscv32": _user("RV32IMAFC", "clang", f"{_RISCV}32 -march=rv32imafc -mabi=ilp32f", "qemu-riscv32", "-fuse-ld=lld"),
    "riscv64": _user("RV64GC", "clang", f"{_RISCV}64 -march=rv64gc -mabi=lp64d", "qemu-riscv64", "-fuse-ld=lld"),
    "aarch64": _user("AArch64", "aarch64-linux-gnu-gcc", "", "qemu-aarch64"),
    "wasm32": Chip(
        title="WebAssembly",
        compiler="clang",
        flags=f"--target=wasm32 {BARE}",
        link="-nostdlib -Wl,--no-entry -Wl,--gc-sections -fuse-ld=lld",
        runner=f"node {HERE}/chip.mjs {{elf}}",
    ),
    "host": _host("this machine, gcc", "gcc", "-std=c99"),
    "host-c++": _host("this machine, g++", "g++", "-x c++ -std=c++17"),
    "host-clang": _host("this machine, clang", "clang", "-std=c99 -march=native"),
    "host-sanitized": _host("this machine, AddressSanitizer and UBSan", "gcc", f"-std=c99 {_SANITIZE}"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=200, help="a network; default 200")
    parser.add_argument("--saturated", type=int, default=5000, help="steps at the limits of the inputs; default 5000")
    parser.add_argument("--chips", nargs="+", choices=CHIPS, default=list(CHIPS), metavar="CHIP", help=", ".join(CHIPS))
    parser.add_argument("--only", default="", help="regular expression of networks' names")
    parser.add_argument("--optimise", default="-O2", help="default -O2")
    parser.add_argument("--no-costs", action="store_true", help="compare only")
    parser.add_argument("--update", action="store_true", help="write the table into docs/edge-benchmarks.md")
    parser.add_argument("--folder", type=Path, help="keep what is built here; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return run(arguments, arguments.folder or Path(temporary))


def run(arguments: argparse.Namespace, folder: Path) -> int:
    programs = {name: p for name, p in nets.networks().items() if re.search(arguments.only, name)}
    measured = {name: p for name, p in nets.measured_networks().items() if re.search(arguments.only, name)}
    if arguments.no_costs:
        measured = {}
    for name, program in {**programs, **measured}.items():
        export(program, name, folder / "networks")
    started = time.monotonic()
    expected = {f"{name} passed": nets.desktop_hash(p, arguments.sequences) for name, p in programs.items()}
    one_way = {name: p for name, p in programs.items() if p.directions == 1}
    for name, program in one_way.items():
        expected[f"{name} saturated"] = nets.desktop_saturated_hash(program, arguments.saturated)
    size = f"{len(programs)} networks, {arguments.sequences} sequences and {arguments.saturated} saturated steps each"
    print(f"desktop: {size}, in {time.monotonic() - started:.0f} s", flush=True)
    wrong, costs = 0, {}
    for name in arguments.chips:
        started = time.monotonic()
        chip = CHIPS[name]
        mistakes = compare(name, chip, programs, expected, arguments, folder)
        wrong += len(mistakes)
        verdict = "all bits equal" if not mistakes else "DIFFERENT: " + ", ".join(mistakes)
        print(f"{name}: {len(programs)} networks in {time.monotonic() - started:.0f} s, {verdict}", flush=True)
        if chip.costs and measured:
            costs[name] = measure(name, chip, measured, arguments, folder)
    if costs:
        table = cost_table(costs)
        print("\n" + table)
        if arguments.update:
            update_docs(table)
    return 1 if wrong else 0


def export(program: Program, name: str, folder: Path) -> None:
    """Source of the network and runtime, and a unit that includes it with the driver."""
    example = nets.sequences(program, 2)[1]
    write_c(program, folder, name, example=example)
    lines = [
        f'#define DRIVE_TEXT "{name}"',
        f"#define DRIVE_NAME {name}",
        f"#define DRIVE_UPPER {name.upper()}",
        f"#define DRIVE_LIMIT {nets.limit_of(program)}",
        f"#define DRIVE_STEPS {nets.STEPS}",
    ]
    header = (folder / f"{name}.h").read_text(encoding="utf-8")
    for macro, present in {
        "FLOAT": program.kind == "float32",
        "BOTH": program.directions == 2,
        "EACH_STEP": program.pooling == "none",
        "CELLS": re.search(r"^  \w+ cells\[", header, re.MULTILINE),
        "STABILISERS": re.search(r"^  \w+ stabilisers\[", header, re.MULTILINE),
        "POOLED": program.pooling in ("mean", "max"),
        "MEASURE": program.directions == 1,
    }.items():
        if present:
            lines.append(f"#define DRIVE_{macro}")
    lines += [f'#include "{name}.c"', '#include "drive.h"', ""]
    (folder / f"drive_{name}.c").write_text("\n".join(lines), encoding="utf-8")


def compare(
    name: str,
    chip: Chip,
    programs: dict[str, Program],
    expected: dict[str, int],
    arguments: argparse.Namespace,
    folder: Path,
) -> list[str]:
    """One program with all networks in it; names of those whose hash is not the desktop's."""
    names = list(programs)
    calls = "".join(f"  {n}_drive({arguments.sequences}U);\n" for n in names)
    calls += "".join(f"  {n}_saturate({arguments.saturated}U);\n" for n, p in programs.items() if p.directions == 1)
    elf = build(name, chip, names, calls, "all", arguments.optimise, folder)
    result = subprocess.run(
        chip.runner.format(elf=elf, plugin="").split(), capture_output=True, text=True, timeout=7200, check=False
    )
    said = re.findall(r"^(\w+) ([0-9a-f]{8}) (passed|saturated)$", result.stdout + result.stderr, re.MULTILINE)
    printed = {f"{network} {what}": value for network, value, what in said}
    if result.returncode != 0:
        tail = (result.stdout + result.stderr)[-2000:]
        print(f"{name}: exit status {result.returncode}\n{tail}", file=sys.stderr)
    return [what for what, value in expected.items() if printed.get(what) != f"{value:08x}"]


def build(name: str, chip: Chip, names: list[str], calls: str, program: str, optimise: str, folder: Path) -> Path:
    """Compiles runtime, harness and a unit for each network, every warning an error; returns the program."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    functions = ("drive(uint32_t sequences)", "saturate(uint32_t steps)", "measure(void)")
    prototypes = "".join(f"void {n}_{function};\n" for n in names for function in functions)
    main = target / f"main_{program}.c"
    main.write_text(
        '#include "chip.h"\n#ifdef __cplusplus\nextern "C" {\n#endif\n'
        f"{prototypes}#ifdef __cplusplus\n}}\n#endif\nint chip_main(void) {{\n{calls}  return 0;\n}}\n"
    )
    sources = [folder / "networks" / f"drive_{n}.c" for n in names]
    sources += [folder / "networks" / "lstmcore_edge.c", HERE / "chip.c", main]
    flags = f"{chip.flags} {optimise} {WARNINGS} -I{HERE} -I{folder}/networks".split()

    def compile_one(source: Path) -> str:
        out = target / f"{source.stem}.o"
        command([chip.compiler, *flags, "-c", str(source), "-o", str(out)])
        return str(out)

    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        objects = list(pool.map(compile_one, sources))
    elf = target / f"{program}.elf"
    linking = [flag for flag in flags if flag not in ("-x", "c++")]
    command([chip.compiler, *linking, *objects, *chip.link.split(), "-o", str(elf)])
    return elf


def command(words: list[str]) -> str:
    """Its output; the program ends with what the command had to say where it fails."""
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(words)[:400]}\n{(result.stdout + result.stderr)[:4000]}")
    return result.stdout


# --- costs -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cost:
    """Bytes, and instructions of one step without and with the head."""

    code: int
    tables: int
    constants: int
    state: int
    scratch: int
    stack: int
    step: int
    with_head: int


def measure(
    name: str, chip: Chip, measured: dict[str, Program], arguments: argparse.Namespace, folder: Path
) -> dict[str, Cost]:
    """Each network in a program of its own, so that only what it needs is linked."""
    plugin = build_plugin(folder)
    result = {}
    for network in measured:
        elf = build(name, chip, [network], f"  {network}_measure();\n", network, arguments.optimise, folder)
        symbols = command([chip.nm, "-S", str(elf)])
        at = {words[-1]: words[0] for words in map(str.split, symbols.splitlines()) if len(words) > 2}
        counts = elf.with_suffix(".count")
        load = f"-plugin file={plugin},start={at['chip_mark_start']},stop={at['chip_mark_stop']},out={counts}"
        words = chip.runner.format(elf=elf, plugin=load).split()
        run = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        sizes = re.search(r"state (\d+) scratch (\d+) stack (\d+)", run.stdout + run.stderr)
        if run.returncode != 0 or sizes is None:
            raise SystemExit(f"{' '.join(words)}\n{run.stdout}{run.stderr}")
        nothing, step, with_head = (int(n) for n in re.findall(r"count (\d+)", counts.read_text()))
        state, scratch, stack = (int(n) for n in sizes.groups())
        code, tables, constants = flash(symbols)
        result[network] = Cost(code, tables, constants, state, scratch, stack, step - nothing, with_head - nothing)
    return result


_HARNESS = r"chip_|drive_|.*_(drive|saturate|measure)$|mem(cpy|set|cmp|move)$|strlen$"


def flash(symbols: str) -> tuple[int, int, int]:
    """Bytes of code, of the runtime's tables, and of the network's own constants, from the output of nm -S.

    Code is all that is not the harness: the runtime, the network's functions, and what the compiler adds from its own
    library. The harness's memory functions are left out on every side; a C library brings its own.
    """
    code = tables = constants = 0
    for words in map(str.split, symbols.splitlines()):
        if len(words) != 4 or re.match(_HARNESS, words[3]):
            continue
        size, kind, symbol = int(words[1], 16), words[2].lower(), words[3]
        if kind in "tw":
            code += size
        elif kind == "r" and symbol.startswith("lce_"):
            tables += size
        elif kind in "rd":
            constants += size
    return code, tables, constants


def build_plugin(folder: Path) -> Path:
    """The counting plugin for the interface of this QEMU."""
    plugin = folder / "count_plugin.so"
    if plugin.exists():
        return plugin
    for version in range(1, 6):
        command(["gcc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-DPLUGIN_VERSION={version}",
                 str(HERE / "count_plugin.c"), "-o", str(plugin)])  # fmt: skip
        probe = ["qemu-aarch64", "-plugin", f"file={plugin},start=1,stop=1,out=/dev/null", "/nonexistent"]
        said = subprocess.run(probe, capture_output=True, text=True, check=False).stderr
        if "version" not in said:
            return plugin
    raise SystemExit(f"QEMU does not take the counting plugin: {said}")


def cost_table(costs: dict[str, dict[str, Cost]]) -> str:
    """Markdown."""
    lines = [
        "| chip | network | code | tables | state | scratch | stack | RAM | instructions a step | with head |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for chip, networks in costs.items():
        for network, c in networks.items():
            ram = c.state + c.scratch + c.stack
            shape = network.removeprefix("lstm_").replace("_", ", ").replace("x", "×", 1)
            sizes = (c.code, c.tables, c.state, c.scratch, c.stack, ram, c.step, c.with_head)
            lines.append(f"| {CHIPS[chip].title} | {shape} | " + " | ".join(f"{size:,}" for size in sizes) + " |")
    return "\n".join(lines)


def update_docs(table: str) -> None:
    """Replaces what stands between the markers."""
    begin, end = "<!-- costs: tests/chips/run.py --update -->", "<!-- end of costs -->"
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    DOCS.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
