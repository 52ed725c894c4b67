"""torch's compiler stays away while nothing is compiled, and is there afterwards."""

import subprocess
import sys

PROGRAM = """
import sys
import torch
from trainables.training.torch_internals import COMPILER, without_compiler

layer = torch.nn.Linear(3, 3)
with without_compiler():
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print(COMPILER in sys.modules, "sympy" in sys.modules, hasattr(torch._dynamo, "config"))
with without_compiler():
    print(hasattr(sys.modules[COMPILER], "config"))
"""


def test_an_optimizer_takes_no_compiler():
    """A process of its own: others have loaded it."""
    assert subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split() == [
        "False",
        "False",
        "True",
        "True",
    ]
