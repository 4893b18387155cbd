"""Runs a bundle's head on stored inputs, for whoever builds the bundle and may not load an edge runtime itself.

    python -m edge_node.head_trial BUNDLE tflite|int8|numpy INPUTS.npy OUTPUTS.npz

INPUTS is float32 (N, ...), preprocessed; OUTPUTS gets `cut` float32 (N, *cut) and, where the head has an exit, `logits`
float32 (N, labels). Exit code 2, and one line, for what is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from broker.exits import EXIT_BAD_INPUT, EXIT_OK
from edge_node.heads import Runtime, open_head
from schemas.bundle_files import open_bundle
from schemas.errors import SplitbusError

_RUNTIMES: Final[tuple[Runtime, ...]] = ("tflite", "int8", "numpy")


def run_head(bundle: Path, runtime: Runtime, inputs: Path, outputs: Path) -> None:
    """Write what the head makes of the inputs. Raises as `open_head` does, TensorError for inputs of another shape."""
    head = open_head(open_bundle(bundle), runtime)
    found = [head.run(each) for each in np.load(inputs, allow_pickle=False)]
    cuts, logits = np.stack([each.cut for each in found]), [each.logits for each in found if each.logits is not None]
    if logits:
        np.savez(outputs, cut=cuts, logits=np.stack(logits))
    else:
        np.savez(outputs, cut=cuts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 2 for what cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m edge_node.head_trial", description=__doc__.split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("runtime", choices=_RUNTIMES)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("outputs", type=Path)
    given = parser.parse_args(argv)
    try:
        run_head(given.bundle, given.runtime, given.inputs, given.outputs)
    except SplitbusError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
