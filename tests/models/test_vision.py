"""torchvision comes without PyTorch's compiler, which is there for whoever wants it."""

from __future__ import annotations

import pytest

from tests.conftest import printed_by

COMPILER = "'torch._dynamo' in sys.modules"
# Compiles without a compiler for C++.
COMPILED = "torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2.0, 2.0]"
OTHERS = [
    "from torch._dynamo.utils import counters as found; name = 'utils.counters'",
    "from torch._dynamo import disable as found; name = 'disable'",
    "from torch._dynamo.eval_frame import OptimizedModule as found; "
    "name = 'eval_frame.OptimizedModule'",
]


def holds(*lines: str) -> None:
    """In a fresh Python each line runs; those that are expressions have to be true."""
    program = ["import sys"]
    for line in lines:
        try:
            compile(line, "line", "eval")
        except SyntaxError:
            program.append(line)
        else:
            program.append(f"assert {line}, {line!r}")
    printed_by("\n".join(program))


def test_torchvision_alone_loads_the_compiler_and_here_it_does_not() -> None:
    # Once torchvision doesn't, `pipeline/models/vision.py` has no reason any more.
    holds("import torchvision", COMPILER)
    holds("import pipeline.models.vision", "'torchvision' in sys.modules", f"not ({COMPILER})")


def test_the_compiler_works_afterwards() -> None:
    holds("import torch, pipeline.models.vision", COMPILED, COMPILER)


def test_the_question_is_answered_by_the_compiler() -> None:
    holds(
        "import pipeline.models.vision",
        "from torchvision.ops.roi_align import is_compile_supported as asked",
        f"not ({COMPILER})",
        "answers = [asked(device) for device in ('cpu', 'cuda', 'xpu')]",
        "from torch._dynamo.utils import is_compile_supported as real",
        "asked is not real and answers == [real(device) for device in ('cpu', 'cuda', 'xpu')]",
    )


@pytest.mark.parametrize("other", OTHERS)
def test_what_else_is_wanted_of_the_compiler_loads_it(other: str) -> None:
    holds(
        "import torch",
        "from pipeline.models.vision import compiler_left_out",
        "from operator import attrgetter",
        f"with compiler_left_out():\n    {other}",
        f"{COMPILER} and sys.modules['torch._dynamo'].__file__",
        "attrgetter(name)(sys.modules['torch._dynamo']) is found",
        COMPILED,
    )


def test_a_compiler_that_is_loaded_stays() -> None:
    holds(
        "import torch._dynamo",
        "before = torch._dynamo",
        "import pipeline.models.vision",
        "torch._dynamo is before and sys.modules['torch._dynamo'] is before",
    )


def test_nothing_is_left_where_the_import_fails() -> None:
    holds(
        "from pipeline.models.vision import compiler_left_out",
        "try:\n    with compiler_left_out():\n        import no_such_module\n"
        "except ModuleNotFoundError:\n    pass",
        f"not ({COMPILER})",
    )
