"""The codec ladder: one codec a file, listed here by the id that a bundle uses."""

from __future__ import annotations

from schemas.codecs.affine import Affine
from schemas.codecs.base import Codec, Config
from schemas.codecs.bottleneck import Bottleneck
from schemas.codecs.input import Input
from schemas.codecs.minmax_u8 import MinMaxU8
from schemas.codecs.tables import Tables
from schemas.codecs.transform import Transform
from schemas.errors import ConfigError
from schemas.tensor import TensorSpec

__all__ = ["CODECS", "Codec", "Config", "Tables", "codec_class", "open_codec"]

CODECS: dict[str, type[Codec]] = {
    "affine": Affine,
    "bottleneck": Bottleneck,
    "input": Input,
    "minmax_u8": MinMaxU8,
    "transform": Transform,
}


def codec_class(codec_id: str) -> type[Codec]:
    """The class behind an id. Raises ConfigError for an unknown one."""
    codec = CODECS.get(codec_id)
    if codec is None:
        msg = f"no codec is called {codec_id!r}; this release knows {', '.join(sorted(CODECS))}"
        raise ConfigError(msg)
    return codec


def open_codec(codec_id: str, spec: TensorSpec, config: Config, tables: Tables | None = None) -> Codec:
    """The codec `codec_id` for tensors of `spec`.

    Raises ConfigError for an unknown id, for a configuration or tables that do not fit, and for tables that are
    missing or not wanted.
    """
    return codec_class(codec_id)(spec, config, tables)
