"""Convolutions and pools of torch as nodes of the NumPy head's graph. Arguments are those of torch, in its order.

One-dimensional ones become two-dimensional ones over an image of height 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import fx

from cloud_worker.build.export.numpy_ops_norm import weights_of
from cloud_worker.build.export.numpy_trace import Ints, Shape, Trace, pair, rank, shape_of, unsupported

_SIGNAL: Final = 3
_IMAGE: Final = 4


def conv(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node,
    bias: fx.Node | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> None:
    """A constant pad with noughts in front of it becomes its padding."""
    _check_rank(node, x)
    weights = weights_of(trace, node, weight, bias)
    kernel = weights["weight"]
    weights["weight"] = kernel.reshape(*kernel.shape[:2], *_spatial(kernel.shape[2:], 1))
    steps = _pair_of(x, dilation, 1)
    reach = [(size - 1) * step for size, step in zip(weights["weight"].shape[2:], steps, strict=True)]
    name, sides = _without_pad(trace, trace.read(node, x))
    own = _same(reach) if padding == "same" else _symmetric(x, 0 if isinstance(padding, str) else padding)
    attrs: dict[str, Any] = {
        "stride": _pair_of(x, stride, 1),
        "padding": _short([first + second for first, second in zip(own, sides, strict=True)]),
        "groups": groups,
        **_dilation(steps),
    }
    _emit_image(trace, node, name, "conv2d", attrs, weights)


def max_pool(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002, ARG001 - the shape of the result tells
) -> None:
    """Rounding up is padding at the end."""
    _check_rank(node, x)
    attrs: dict[str, Any] = {"kernel": _pair_of(x, kernel, 1), "stride": _pair_of(x, stride or kernel, 1)}
    steps = _pair_of(x, dilation, 1)
    reach = [(size - 1) * step + 1 for size, step in zip(attrs["kernel"], steps, strict=True)]
    sides = _symmetric(x, padding)
    more = _missing(node, x, reach, attrs["stride"], sides)
    attrs["padding"] = _short([sides[0], sides[1] + more[0], sides[2], sides[3] + more[1]])
    _emit_image(trace, node, trace.read(node, x), "max_pool", {**attrs, **_dilation(steps)})


def _dilation(steps: Sequence[int]) -> dict[str, Any]:
    """The attribute, where a kernel's values do not touch."""
    return {} if list(steps) == [1, 1] else {"dilation": steps}


def avg_pool(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    kernel: Ints,
    stride: Ints = (),
    padding: Ints = 0,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002
    count_include_pad: bool = True,  # noqa: FBT001, FBT002
    divisor_override: int | None = None,
) -> None:
    """Rounding up is refused where it makes a difference: windows would count fewer values."""
    _check_rank(node, x)
    attrs: dict[str, Any] = {"kernel": _pair_of(x, kernel, 1), "stride": _pair_of(x, stride or kernel, 1)}
    sides = _symmetric(x, padding)
    if any(_missing(node, x, attrs["kernel"], attrs["stride"], sides)) or divisor_override is not None:
        raise unsupported(node, f"ceil_mode {ceil_mode}, divisor_override {divisor_override}")
    attrs |= {"padding": _short(sides), "count_include_pad": count_include_pad}
    _emit_image(trace, node, trace.read(node, x), "avg_pool", attrs)


def adaptive_avg_pool(trace: Trace, node: fx.Node, x: fx.Node, size: Ints) -> None:
    """To one place it is a global pool, to a divisor of the size an ordinary one."""
    _check_rank(node, x)
    if _pair_of(x, size, 1) == [1, 1]:
        _emit_image(trace, node, trace.read(node, x), "global_avg_pool", {})
    else:
        _adaptive(trace, node, x, "avg_pool")


def adaptive_max_pool(trace: Trace, node: fx.Node, x: fx.Node, size: Ints) -> None:  # noqa: ARG001
    """To a divisor of the size it is an ordinary one."""
    _check_rank(node, x)
    _adaptive(trace, node, x, "max_pool")


def _adaptive(trace: Trace, node: fx.Node, x: fx.Node, op: str) -> None:
    given, wanted = _spatial(shape_of(x)[2:], 1), _spatial(shape_of(node)[2:], 1)
    if any(length % count for length, count in zip(given, wanted, strict=True)):
        _emit_image(trace, node, trace.read(node, x), f"adaptive_{op}", {"size": list(wanted)})
        return
    kernel = [length // count for length, count in zip(given, wanted, strict=True)]
    _emit_image(trace, node, trace.read(node, x), op, {"kernel": kernel, "stride": kernel})


def mean(  # noqa: PLR0917
    trace: Trace,
    node: fx.Node,
    x: fx.Node,
    dims: Sequence[int],
    keepdim: bool = False,  # noqa: FBT001, FBT002, ARG001 - the shape of the result tells
    dtype: object = None,  # noqa: ARG001 - so does its dtype
) -> None:
    """Over all of height and width, or over all of a signal."""
    known = {2, 3} if rank(x) == _IMAGE else {2}
    if rank(x) not in {_SIGNAL, _IMAGE} or {dim % rank(x) for dim in dims} != known:
        raise unsupported(node, f"it averages over {list(dims)}, only over height and width is known")
    name = trace.view(trace.read(node, x), (shape_of(x)[1], *_spatial(shape_of(x)[2:], 1)))
    name = trace.append("global_avg_pool", [name], (shape_of(x)[1], 1, 1), {})
    trace.names[node] = trace.view(name, shape_of(node)[1:])


def _emit_image(  # noqa: PLR0917
    trace: Trace, node: fx.Node, name: str, op: str, attrs: dict[str, Any], weights: dict[str, Any] | None = None
) -> None:
    """An op on an image, whose input and output are signals in torch where `node` is one."""
    channels, *given = trace.shape(name)
    name = trace.view(name, (channels, *_spatial(tuple(given), 1)))
    outs, *made = shape_of(node)[1:]
    name = trace.append(op, [name], (outs, *_spatial(tuple(made), 1)), attrs, weights)
    trace.names[node] = trace.view(name, shape_of(node)[1:])


def _check_rank(node: fx.Node, x: fx.Node) -> None:
    expected = _SIGNAL if "1d" in str(node.target) else _IMAGE
    if rank(x) != expected:
        raise unsupported(node, f"its input has {rank(x)} dimensions, expected {expected} with the batch")


def _spatial(sizes: Shape, other: int) -> tuple[int, int]:
    """(vertical, horizontal) of an image's sizes, or of a signal's."""
    return (other, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _pair_of(x: fx.Node, value: Ints, other: int) -> list[int]:
    """Vertical and horizontal; for a signal `other` and what torch says."""
    return pair(value) if rank(x) == _IMAGE else [other, pair(value)[0]]


def _symmetric(x: fx.Node, padding: Ints) -> list[int]:
    """(top, bottom, left, right)."""
    down, across = _pair_of(x, padding, 0)
    return [down, down, across, across]


def _same(reach: list[int]) -> list[int]:
    """What keeps the size at stride 1: the odd one at the end."""
    return [reach[0] // 2, reach[0] - reach[0] // 2, reach[1] // 2, reach[1] - reach[1] // 2]


def _short(sides: list[int]) -> list[int]:
    """Two numbers where opposite sides are equal."""
    return [sides[0], sides[2]] if sides[0] == sides[1] and sides[2] == sides[3] else sides


def _missing(node: fx.Node, x: fx.Node, reach: list[int], stride: list[int], sides: list[int]) -> list[int]:
    """Rows and columns that the last windows of a pool read after the padding."""
    given, made = _spatial(shape_of(x)[2:], 1), _spatial(shape_of(node)[2:], 1)
    padded = [given[0] + sides[0] + sides[1], given[1] + sides[2] + sides[3]]
    last = [(count - 1) * step + size for count, step, size in zip(made, stride, reach, strict=True)]
    return [max(0, end - length) for end, length in zip(last, padded, strict=True)]


def _without_pad(trace: Trace, name: str) -> tuple[str, list[int]]:
    """What a pad with noughts along height and width reads, and its sides; else the value itself and no sides."""
    producer = trace.producer(name)
    if producer is None or producer["op"] != "pad" or producer["attrs"]["value"] != 0:
        return name, [0] * 4
    before, after = producer["attrs"]["before"], producer["attrs"]["after"]
    if before[0] or after[0]:
        return name, [0] * 4
    top, left = _spatial(tuple(before[1:]), 0)
    bottom, right = _spatial(tuple(after[1:]), 0)
    return producer["inputs"][0], [top, bottom, left, right]
