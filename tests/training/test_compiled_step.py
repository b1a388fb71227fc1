"""Reading a compiled program: what it counts, and what it calls a problem."""

from collections import Counter
from dataclasses import replace

import pytest

from bert4keras3.training.compiled_step import (
    CompiledStep,
    count_operations,
    matmul_dtypes,
)

HLO = """
HloModule jit_train_step, is_scheduled=true

%fused (p: f32[2,2]) -> f32[2,2] {
  %p = f32[2,2]{1,0:T(8,128)} parameter(0)
  ROOT %n = f32[2,2]{1,0} negate(%p)
}

ENTRY %main {
  %a = f32[2,2]{1,0} parameter(0)
  %c = (f32[2,2]{1,0}, u32[]) all-reduce-start(%a, %a), replica_groups={{0,1}}
  %r.1 = f32[2,2]{1,0} all-reduce(%a), to_apply=%add
  %s = (f32[2]{0}, u32[], token[]) send(%a), channel_id=1
  %k = f32[4]{0} custom-call(%a), custom_call_target="xla_python_callback"
  ROOT %f = f32[2,2]{1,0} fusion(%r.1), kind=kLoop, calls=%fused
}
"""
GOOD = CompiledStep("TPU", 1, 1.0, 1.0, 10, 5, 15, donated=8000, state=8008)


def test_operations_are_counted_in_every_computation():
    operations, calls = count_operations(HLO)
    assert operations == Counter(
        {"parameter": 2}
        | dict.fromkeys(("negate", "all-reduce-start", "all-reduce", "send"), 1)
        | dict.fromkeys(("custom-call", "fusion"), 1)
    )
    assert calls == {"xla_python_callback": 1}


def test_types_of_products():
    text = """
    %3 = stablehlo.dot_general %1, %2, batching_dims = [0] x [0], contracting_dims = [2] x [1], precision = [DEFAULT, DEFAULT] : (tensor<8x4x2xbf16>, tensor<8x2x3xbf16>) -> tensor<8x4x3xbf16>
    %4 = stablehlo.dot_general %1, %0 : (tensor<4xbf16>, tensor<4x3xf32>) -> tensor<3xf32>
    %5 = stablehlo.add %1, %2 : (tensor<4xf32>, tensor<4xf32>)
    """  # noqa: E501
    assert matmul_dtypes(text) == {("bf16", "bf16"): 1, ("bf16", "f32"): 1}


def test_a_good_step_has_no_problems():
    good = replace(
        GOOD,
        operations=Counter({"fusion": 3, "all-reduce": 1, "reduce-scatter": 1}),
        custom_calls=Counter({"ConcatBitcast": 1}),
        matmuls=Counter({("bf16", "bf16"): 5}),
    )
    assert good.problems("bf16") == []
    assert good.collectives == {"all-reduce": 1, "reduce-scatter": 1}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"operations": Counter({"send": 2})}, "send (2 times) leaves the device"),
        ({"operations": Counter({"outfeed": 1})}, "outfeed"),
        ({"operations": Counter({"recv-done": 1})}, "recv-done"),
        ({"operations": Counter({"set-dimension-size": 1})}, "depends on data"),
        ({"operations": Counter({"all-to-all": 3})}, "all-to-all (3 times) moves"),
        ({"operations": Counter({"collective-permute-start": 1})}, "whole arrays"),
        ({"custom_calls": Counter({"xla_python_callback": 1})}, "on no list"),
        ({"donated": 3008}, "5,000 bytes of the state are copied"),
        ({"matmuls": Counter({("bf16", "f32"): 2})}, "2 products of bf16 and f32"),
    ],
)
def test_each_problem_is_named(change, words):
    (problem,) = replace(GOOD, **change).problems("bf16")
    assert words in problem
