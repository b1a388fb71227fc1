"""What a compiler made of a training step: memory, work, and what must not be in it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["CompiledStep", "count_operations", "matmul_dtypes"]

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# Each chip gives and takes only what it must; the others move whole arrays about.
CHEAP_COLLECTIVES = frozenset({"all-reduce", "all-gather", "reduce-scatter"})
HOST_OPERATIONS = frozenset({"send", "recv", "infeed", "outfeed"})
DYNAMIC_OPERATIONS = frozenset(
    {"set-dimension-size", "get-dimension-size", "dynamic-reshape"}
)
# What compilers call of their own accord, on the device.
CUSTOM_CALLS = frozenset(
    {
        "AssumeGatherIndicesInBound",
        "GatherScatterIndicesBitpacked",
        "ConcatBitcast",
        "X64Combine",
        "X64SplitHigh",
        "X64SplitLow",
        "__cublas$gemm",
        "__cublas$lt$matmul",
        "__cublas$lt$matmul$f8",
        "__triton_gemm",
        "__cudnn$softmax",
        "cu_threefry2x32_ffi",
    }
)
# Bytes of counters and seeds, which a compiler may copy.
COUNTERS = 1024
OPERATION = re.compile(
    r"^\s*(?:ROOT )?%\S+ = (?:\([^=]*?\)|\S+) ([a-z][a-z0-9-]*)\(", re.MULTILINE
)
CUSTOM_CALL = re.compile(r'custom_call_target="([^"]+)"')
MATMUL = re.compile(
    r"stablehlo\.(?:dot_general|dot|convolution)\b.*?"
    r": \(tensor<(?:[0-9?]+x)*(\w+)>, tensor<(?:[0-9?]+x)*(\w+)>\)"
)


@dataclass(frozen=True)
class CompiledStep:
    """One compiled training step, as its compiler tells of it. Sizes are per chip.

    Args:
        device: kind of the chip.
        chips: how many chips run the step together.
        flops: floating-point operations; 0 where the compiler does not tell.
        bytes_accessed: bytes read and written; 0 where the compiler does not tell.
        arguments: bytes of the state and the batch.
        temporaries: bytes that live within the step alone.
        peak: bytes, the most that are alive at one time.
        donated: bytes of the state that the new state is written over.
        state: bytes of the state.
        capacity: bytes of memory a chip has for programs; 0 if unknown.
        operations: how often each operation is in the program.
        custom_calls: how often each custom call is.
        matmuls: how often each pair of operand types is multiplied, before the
            compiler touched it.
        seconds: what compiling took.
    """

    device: str
    chips: int
    flops: float
    bytes_accessed: float
    arguments: int
    temporaries: int
    peak: int
    donated: int
    state: int
    capacity: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    custom_calls: Counter[str] = field(default_factory=Counter)
    matmuls: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def collectives(self) -> Counter[str]:
        """How often each collective is in the program."""
        found: Counter[str] = Counter()
        for name, times in self.operations.items():
            kind = name.removesuffix("-start")
            if kind in COLLECTIVES:
                found[kind] += times
        return found

    def problems(self, matmul_dtype: str | None = None) -> list[str]:
        """What keeps the step from running at a device's speed; nothing if all is well.

        Args:
            matmul_dtype: `"bf16"` if every product must take operands of that type.

        Returns:
            A sentence for each: transfers to or from the host, shapes known only when
            it runs, custom calls nobody listed, collectives that move whole arrays, a
            state that is copied instead of written over, products in another type.
        """
        found = [
            f"{name} ({times} times) leaves the device for the host"
            for name, times in self.operations.items()
            if name.removesuffix("-done") in HOST_OPERATIONS
        ]
        found += [
            f"{name} ({times} times): a shape depends on data"
            for name, times in self.operations.items()
            if name in DYNAMIC_OPERATIONS
        ]
        found += [
            f"custom call {name} ({times} times) is on no list"
            for name, times in self.custom_calls.items()
            if name not in CUSTOM_CALLS
        ]
        found += [
            f"{name} ({times} times) moves whole arrays between chips"
            for name, times in self.collectives.items()
            if name not in CHEAP_COLLECTIVES
        ]
        if self.state - self.donated > COUNTERS:
            found.append(
                f"{self.state - self.donated:,} bytes of the state are copied, not "
                "written over"
            )
        if matmul_dtype:
            found += [
                f"{times} products of {' and '.join(pair)}, not {matmul_dtype}"
                for pair, times in self.matmuls.items()
                if set(pair) != {matmul_dtype}
            ]
        return found


def count_operations(hlo: str) -> tuple[Counter[str], Counter[str]]:
    """Count the operations and the custom calls in the text of an HLO module.

    Example:

    >>> count_operations('%a = f32[2]{0} add(%b, %c)')[0]
    Counter({'add': 1})
    """
    return Counter(OPERATION.findall(hlo)), Counter(CUSTOM_CALL.findall(hlo))


def matmul_dtypes(stablehlo: str) -> Counter[tuple[str, str]]:
    """Count the pairs of types that products and convolutions of StableHLO take.

    Example:

    >>> matmul_dtypes(
    ...     "%2 = stablehlo.dot_general %0, %1, contracting_dims = [1] x [0] : "
    ...     "(tensor<8x4xbf16>, tensor<4x2xf32>) -> tensor<8x2xf32>"
    ... )
    Counter({('bf16', 'f32'): 1})
    """
    return Counter(MATMUL.findall(stablehlo))
