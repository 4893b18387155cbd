"""Functions of one value at a time of the NumPy head: float32 in and float32 out, of any shape.

Each gives a new array and leaves its argument alone, or writes into `out`, which may be the argument itself.
Values up to 1e30 do not overflow, and NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from schemas.tensor import FloatArray

Activation = Callable[..., FloatArray]
"""`activation(x)` or `activation(x, out=x)`."""
Out = FloatArray | None

_ZERO, _HALF, _ONE, _THREE, _SIX = (np.float32(value) for value in (0, 0.5, 1, 3, 6))
_LARGE = np.float32(80)
"""Its exponential is a float32, and that of its negative is next to nought."""
_FLAT = np.float32(10)
"""Beyond it erf and the tanh of GELU are 1 to the last bit."""
_ERF = tuple(np.float32(value) for value in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))
_ERF_SCALE = np.float32(0.3275911)


def relu(x: FloatArray, out: Out = None) -> FloatArray:
    """max(x, 0)."""
    return np.maximum(x, _ZERO, out=out)


def relu6(x: FloatArray, out: Out = None) -> FloatArray:
    """min(max(x, 0), 6)."""
    result: FloatArray = np.maximum(x, _ZERO, out=out)
    return np.minimum(result, _SIX, out=result)


def clip(x: FloatArray, out: Out = None, *, low: float | None, high: float | None) -> FloatArray:
    """min(max(x, low), high); None is no limit."""
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    result: FloatArray = np.maximum(x, np.float32(least), out=out)
    return np.minimum(result, np.float32(most), out=result)


def leaky_relu(x: FloatArray, out: Out = None, *, slope: float) -> FloatArray:
    """X where it is positive, else slope * x."""
    low = np.minimum(x, _ZERO)
    low *= np.float32(slope)
    result: FloatArray = np.maximum(x, _ZERO, out=out)
    result += low
    return result


def elu(x: FloatArray, out: Out = None, *, alpha: float) -> FloatArray:
    """X where it is positive, else alpha * (exp(x) - 1)."""
    low = np.minimum(x, _ZERO)
    np.expm1(low, out=low)
    low *= np.float32(alpha)
    result: FloatArray = np.maximum(x, _ZERO, out=out)
    result += low
    return result


def hardsigmoid(x: FloatArray, out: Out = None) -> FloatArray:
    """relu6(x + 3) / 6."""
    result: FloatArray = np.add(x, _THREE, out=out)
    relu6(result, out=result)
    result *= np.float32(1 / 6)
    return result


def hardswish(x: FloatArray, out: Out = None) -> FloatArray:
    """X * relu6(x + 3) / 6."""
    gate = relu6(x + _THREE)
    result: FloatArray = np.multiply(gate, x, out=out)
    result *= np.float32(1 / 6)
    return result


def sigmoid(x: FloatArray, out: Out = None) -> FloatArray:
    """1 / (1 + exp(-x))."""
    result: FloatArray = np.negative(x, out=out)
    np.minimum(result, _LARGE, out=result)
    np.exp(result, out=result)
    result += _ONE
    return np.reciprocal(result, out=result)


def silu(x: FloatArray, out: Out = None) -> FloatArray:
    """X * sigmoid(x)."""
    gate = sigmoid(x)
    bounded: FloatArray = np.maximum(x, -_LARGE, out=out)
    return np.multiply(bounded, gate, out=out)


def tanh(x: FloatArray, out: Out = None) -> FloatArray:
    """The hyperbolic tangent."""
    return np.tanh(x, out=out)


def gelu(x: FloatArray, out: Out = None) -> FloatArray:
    """X / 2 * (1 + erf(x / sqrt(2))), within 1e-6 * max(1, |x|)."""
    gate = _erf(x * np.float32(math.sqrt(0.5)))
    return _gated(x, gate, out)


def gelu_tanh(x: FloatArray, out: Out = None) -> FloatArray:
    """X / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    bounded = clip(x, low=-float(_FLAT), high=float(_FLAT))
    gate = bounded * bounded
    gate *= np.float32(0.044715)
    gate += _ONE
    gate *= bounded
    gate *= np.float32(math.sqrt(2 / math.pi))
    return _gated(x, np.tanh(gate, out=gate), out)


def _gated(x: FloatArray, gate: FloatArray, out: Out) -> FloatArray:
    """X / 2 * (1 + gate)."""
    gate += _ONE
    gate *= _HALF
    return np.multiply(x, gate, out=out)


def _erf(x: FloatArray) -> FloatArray:
    """The error function within 5e-7 (Abramowitz and Stegun 7.1.26)."""
    size = np.minimum(np.abs(x), _FLAT)
    t = np.reciprocal(size * _ERF_SCALE + _ONE)
    series = np.full_like(t, _ERF[0])
    for factor in _ERF[1:]:
        series *= t
        series += factor
    series *= t
    series *= np.exp(-size * size)
    result: FloatArray = np.copysign(_ONE - series, x)
    return result
