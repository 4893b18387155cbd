"""`python -m benchmarks.rate_heads DIR CUT ...`: heads of EfficientNet-Lite0 as TFLite, each in a file DIR/CUT.tflite.

In a process of its own: the converter brings libraries that slow down what is measured in the same process after it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from cloud_worker.build.export.freeze import folded
from cloud_worker.build.export.to_tflite import export_tflite
from models.efficientnet_lite0 import nets
from schemas.errors import BundleError, ConfigError


def exported(cuts: Sequence[int]) -> dict[int, bytes]:
    """The head of each cut as a TFLite model; none where litert-torch is not installed.

    Raises BundleError with the converter's last words when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "benchmarks.rate_heads", folder, *map(str, cuts)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode:
            last = "".join(done.stderr.splitlines()[-1:])
            msg = f"the heads could not be exported ({last}); uninstall litert-torch to have them timed in torch"
            raise BundleError(msg)
        return {cut: path.read_bytes() for cut in cuts if (path := Path(folder) / f"{cut}.tflite").is_file()}


def main(argv: Sequence[str]) -> None:
    """Write the files; none without litert-torch."""
    folder, *cuts = argv
    net = folded(nets.load_net())
    assert isinstance(net, torch.nn.Sequential)
    for cut in map(int, cuts):
        try:
            model = export_tflite(net[: cut + 1].eval(), torch.zeros(1, 3, nets.SIDE, nets.SIDE))
        except ConfigError:
            return
        (Path(folder) / f"{cut}.tflite").write_bytes(model)


if __name__ == "__main__":
    main(sys.argv[1:])
