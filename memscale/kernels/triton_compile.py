"""Compiles the Triton kernels for GPUs that need not be present, and reports the resources that they use.

`python -m memscale.kernels.triton_compile` prints a line for every kernel, type, width and target: A100 (sm_80) and
H100 (sm_90). It exits with 1 if registers spill, which costs memory traffic. Kernels are compiled as a launch would
compile them, with Triton's own assembler, and their resources are read by its `cuobjdump`.

Raises ConfigError under TRITON_INTERPRET=1, where nothing is compiled.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from memscale.errors import ConfigError
from memscale.kernels import bags_triton, rows_triton, triton_launch

TARGETS = (80, 90)
TYPES = (torch.float32, torch.bfloat16)
WIDTHS = (1024, 96)
"""More than one block of float32, and less than one."""

_NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
_WARP = 32
_WHOLE = {"offsets_ptr": "*i64", "indices_ptr": "*i64", "slots_ptr": "*i64"}
_STEPS = {"moments_step_ptr": "*i32", "weights_step_ptr": "*i32", "num_bags": "i32", "step": "i32"}
_EXACT = {"coefficients_ptr": "*fp64", "constants_ptr": "*fp64", "scale_ptr": "*fp64"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel as it is launched on a table of this type and width."""

    kernel: Any
    table: torch.dtype
    width: int
    by_row: bool = False

    @property
    def name(self) -> str:
        """The kernel's name, and whether second moments are per row."""
        kernel = str(self.kernel.__name__).removesuffix("_kernel")
        return f"{kernel} (by row)" if self.by_row and "by_row" not in kernel else kernel


@dataclass(frozen=True, kw_only=True)
class ResourceUsage:
    """What a compiled kernel uses: `registers` and `spilled_bytes` per thread, `shared_bytes` per program."""

    case: Case
    target: int
    registers: int
    spilled_bytes: int
    shared_bytes: int

    def __str__(self) -> str:
        case = f"{self.case.name:22} {_NAMES[self.case.table]:5} width {self.case.width:5}  sm_{self.target}"
        return f"{case}  registers {self.registers:4}  spilled {self.spilled_bytes:4} B  shared {self.shared_bytes:6} B"


def cases(types: Sequence[torch.dtype] = TYPES, widths: Sequence[int] = WIDTHS) -> Iterator[Case]:
    """Yield every kernel for every table."""
    kernels = [
        (bags_triton.embedding_bag_kernel, False),
        (bags_triton.bag_squared_norm_kernel, False),
        (bags_triton.long_bags_kernel, False),
        (bags_triton.per_sample_weight_grad_kernel, False),
        (rows_triton.catch_up_kernel, False),
        (rows_triton.catch_up_kernel, True),
        (rows_triton.update_kernel, False),
        (rows_triton.update_by_row_kernel, True),
    ]
    for kernel, by_row in kernels:
        for table in types:
            for width in widths:
                yield Case(kernel=kernel, table=table, width=width, by_row=by_row)


def compile_case(case: Case, target: int) -> ResourceUsage:
    """Compile a kernel for compute capability `target` (80 is sm_80).

    Raises:
        ConfigError: TRITON_INTERPRET is 1.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise ConfigError("TRITON_INTERPRET is 1: kernels are interpreted, there is nothing to compile. Unset it")
    source, options = _source(case)
    binary = triton.compile(source, target=GPUTarget("cuda", target, _WARP), options=options)
    usage = _usage(binary.asm["cubin"])
    # The kernels have no local arrays: what a thread keeps in memory is what its registers did not hold.
    spilled_bytes = usage["STACK"] + usage["LOCAL"]
    return ResourceUsage(
        case=case,
        target=target,
        registers=usage["REG"],
        spilled_bytes=spilled_bytes,
        shared_bytes=binary.metadata.shared,
    )


def _source(case: Case) -> tuple[ASTSource, dict[str, Any]]:
    """Return the kernel with the types of its arguments, and the compiler's options."""
    optimises = "weights_ptr" in case.kernel.arg_names
    sums = torch.promote_types(case.table, torch.float32)
    if optimises:
        constants = rows_triton.rows_tile(case.width, sums)
    elif case.kernel is bags_triton.per_sample_weight_grad_kernel:
        constants = triton_launch.weight_grad_tile(case.width, case.table)
    else:
        constants = triton_launch.tile(case.width, case.table)
    constants |= {"STOCHASTIC": case.table == torch.bfloat16, "BY_ROW": case.by_row}
    table, wide = f"*{_NAMES[case.table]}", f"*{_NAMES[sums]}"
    types = {"rows_ptr": table, "factors_ptr": table, "x_ptr": table, "out_ptr": table, "weights_ptr": table}
    types |= {"partial_ptr": wide, "first_ptr": wide, "second_ptr": wide, **_WHOLE, **_STEPS, **_EXACT}
    if optimises:  # what is read is a gradient there
        types |= {"rows_ptr": wide, "factors_ptr": wide}
    if case.kernel is bags_triton.bag_squared_norm_kernel:
        types["out_ptr"] = "*fp64"
    names = case.kernel.arg_names
    signature = {name: "constexpr" if name.isupper() else types[name] for name in names}
    # What a launch finds out by itself: torch's memory is aligned.
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name.endswith("_ptr")}
    known = {name: constants[name] for name in names if name.isupper()}
    options = {name: value for name, value in constants.items() if name.islower()}
    return ASTSource(case.kernel, signature, known, aligned), options


def _usage(cubin: bytes) -> dict[str, int]:
    """Return cuobjdump's counts for the one kernel of a binary, under its names for them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
    return {name: int(count) for name, count in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", done.stdout)}


def main() -> int:
    """Print the resources of every kernel; return 1 if one spills registers."""
    spills = 0
    for target in TARGETS:
        for case in cases():
            taken = compile_case(case, target)
            spills += taken.spilled_bytes > 0
            sys.stdout.write(f"{taken}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{spills} kernels spill\n")
    return 1 if spills else 0


if __name__ == "__main__":
    sys.exit(main())
