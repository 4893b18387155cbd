"""The codec ladder: one codec a file, listed here by the id that a bundle uses."""

from __future__ import annotations

from schemas.codecs.affine import Affine
from schemas.codecs.base import Codec, Config
from schemas.codecs.input import Input
from schemas.codecs.minmax_u8 import MinMaxU8
from schemas.errors import ConfigError
from schemas.tensor import TensorSpec

__all__ = ["CODECS", "Codec", "Config", "open_codec"]

CODECS: dict[str, type[Codec]] = {
    "affine": Affine,
    "input": Input,
    "minmax_u8": MinMaxU8,
}


def open_codec(codec_id: str, spec: TensorSpec, config: Config) -> Codec:
    """The codec `codec_id` for tensors of `spec`. Raises ConfigError for an unknown id or configuration."""
    codec = CODECS.get(codec_id)
    if codec is None:
        msg = f"no codec is called {codec_id!r}; this release knows {', '.join(sorted(CODECS))}"
        raise ConfigError(msg)
    return codec(spec, config)
