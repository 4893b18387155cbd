"""`python -m benchmarks NAME [--json]`: measure one thing; exit code 1 when a target is missed."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Sequence

from benchmarks.report import Report
from broker.process import loop_factory
from schemas.errors import SplitbusError

BENCHMARKS = {
    "ablation": "what each choice behind codec transform is worth, in bytes at equal KL of the output",
    "certificate": "certified thresholds of the early exit: how often the promise is broken, beside plain ones",
    "demo": "the whole pipeline on the committed images, with a table at the end",
    "entropy": "bytes and time of the entropy coder against others, 50 to 150,000 values",
    "failover": "kill -9 one of two workers under load, again and again",
    "footprint": "memory and start-up time of an edge process",
    "fuzz": "a million damaged payloads through every codec: no crash, no hang, no allocation over the bound",
    "int8": "what int8 heads take and lose beside float32 ones, on the two reference models",
    "kpi": "latency, bytes, cost and accuracy of each mode over an emulated mobile link",
    "leakage": "what each operating point of the Fashion-MNIST bundle shows of the image, at least",
    "overhead": "bytes of an inference beyond the compressed tensor",
    "plan": "planning a stored profile again for another link",
    "rate": "bytes on the wire against fidelity: every cut and codec beside image files of the input",
    "regret": "latency of the planner's choice over that of the best candidate, both measured over shaped links",
    "roundtrip": "one frame in flight through splitbus against a bare aiomqtt echo",
    "trace": "the router over a link that changes, beside always edge, always cloud and always split",
}


def build_parser(chosen: str) -> argparse.ArgumentParser:
    """The command line: one subcommand a benchmark, of which only the chosen one is loaded and has its options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, what in BENCHMARKS.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")
        if name == chosen:
            importlib.import_module(f"benchmarks.{name}").add_options(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark. Exit code 0, 1 when a target is missed, 2 for bad input, 130 after Ctrl-C."""
    given = sys.argv[1:] if argv is None else list(argv)
    options = build_parser(given[0] if given else "").parse_args(given)
    module = importlib.import_module(f"benchmarks.{options.name}")
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            report: Report = runner.run(module.run(options))
    except SplitbusError as error:
        sys.stderr.write(f"benchmarks {options.name}: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; every process that was started has been ended\n")
        return 130
    report.print(as_json=options.json)
    return 0 if all(target.ok for target in report.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
