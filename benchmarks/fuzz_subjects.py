"""What `fuzz` decodes: every codec in realistic configurations, with valid payloads to start from.

The committed bundle's operating points, on its own samples; the same codecs at the size of a photo's cut tensor; and
image files of a small grey and of a photo-sized sample. The children open it too, so nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.children import BUNDLE, TEST_IMAGES
from benchmarks.fuzz_payloads import Pool
from edge_node.heads import open_head
from edge_node.idx import read_idx
from schemas.bundle_files import Bundle, open_bundle
from schemas.codecs import CODECS, Codec, Config, Tables, open_codec
from schemas.codecs.tables import unpack_tables
from schemas.tensor import Array, TensorSpec

PHOTO_CUT: Final = TensorSpec(dtype="float32", shape=(80, 14, 14))
PHOTO: Final = TensorSpec(dtype="uint8", shape=(224, 224, 3))
_VALID, _PICTURES = 6, 4
"""Valid payloads of each configuration, and of those of the photo-sized sample."""
_SMALL_TENSOR, _PHOTO_TENSOR, _SMALL_IMAGE = 40, 30, 50
"""Parts of the mix, about thousandths; image files get more than half: their decoders are others' C."""
_IMAGES: Final[tuple[tuple[Config, int], ...]] = (
    ({"format": "png"}, 60),
    ({"format": "webp"}, 60),
    ({"format": "webp", "quality": 75}, 50),
    ({"format": "jpeg", "quality": 75}, 50),
    ({"format": "avif", "quality": 60}, 50),
    ({"format": "zstd"}, 60),
)
"""Of the photo-sized sample, with their parts; of the small one, those that are not in the bundle."""
_PHOTO_TENSORS: Final[tuple[tuple[str, Config], ...]] = (
    ("affine", {"bits": 2, "scale": [1.0], "zero": [-1.5]}),
    ("affine", {"bits": 8, "scale": [0.03], "zero": [-4.0]}),
    ("minmax_u8", {}),
    ("transform", {"level": -4}),
    ("transform", {"level": 4}),
)
_SPOKEN: Final = ("bits", "level", "rate", "format", "quality")
"""The settings that a row names."""


class Subject(NamedTuple):
    """One codec configuration."""

    name: str
    codec: Codec
    spec: TensorSpec
    share: int
    """Its part of the payloads, beside those of the others."""
    format: str | None = None
    """Of an image file."""

    @property
    def is_image(self) -> bool:
        """Whether payloads are files of the sample, not of a tensor inside the net."""
        return self.codec.id == "input"


def open_subjects(photo_tables: bytes) -> list[Subject]:
    """Every configuration; `photo_tables` is the file of tables for codec transform at `PHOTO_CUT`.

    Raises as `open_bundle` and `open_codec` do, and KeyError when a codec of `CODECS` has no configuration here.
    """
    bundle, tables = open_bundle(BUNDLE), unpack_tables(photo_tables)
    cut, sample = bundle.manifest.cut, bundle.manifest.sample
    small = [config for config, _ in _IMAGES if config["format"] != "webp"]
    found = [
        *_of_bundle(bundle),
        _subject("affine", cut, {"bits": 8, "scale": [0.03], "zero": [-4.0]}, _SMALL_TENSOR),
        *(_subject(name, PHOTO_CUT, config, _PHOTO_TENSOR, tables) for name, config in _PHOTO_TENSORS),
        *(_subject("input", sample, config, _SMALL_IMAGE) for config in small),
        *(_subject("input", PHOTO, config, share) for config, share in _IMAGES),
    ]
    if missing := CODECS.keys() - {subject.codec.id for subject in found}:
        raise KeyError(*missing)
    return found


def _of_bundle(bundle: Bundle) -> Iterator[Subject]:
    codecs = bundle.codecs()
    for point in bundle.manifest.points:
        spec = bundle.manifest.spec_of(point)
        share = _SMALL_IMAGE if point.codec == "input" else _SMALL_TENSOR
        yield Subject(_name(point.codec, point.config, spec), codecs[point.id], spec, share, point.config.get("format"))


def _subject(codec_id: str, spec: TensorSpec, config: Config, share: int, tables: Tables | None = None) -> Subject:
    own = tables if CODECS[codec_id].needs_tables else None
    codec = open_codec(codec_id, spec, config, own)
    return Subject(_name(codec_id, config, spec), codec, spec, share, config.get("format"))


def _name(codec_id: str, config: dict[str, Any], spec: TensorSpec) -> str:
    settings = " ".join(f"{key} {config[key]}" for key in _SPOKEN if key in config)
    return f"{codec_id} {settings} {spec}".replace("  ", " ")


def pools(subjects: Sequence[Subject], seed: int) -> list[Pool]:
    """The valid payloads of each subject, and of all the others as they are to it."""
    samples = _samples(seed)
    valid = [tuple(subject.codec.encode(each) for each in samples[subject.spec]) for subject in subjects]
    return [_pool(number, subjects, valid) for number in range(len(subjects))]


def _pool(number: int, subjects: Sequence[Subject], valid: Sequence[tuple[bytes, ...]]) -> Pool:
    subject, own = subjects[number], valid[number]
    others = [pair for place, pair in enumerate(zip(subjects, valid, strict=True)) if place != number]
    siblings = tuple(each for other, made in others if other.codec.id == subject.codec.id for each in made)
    strangers = tuple(each for other, made in others if other.codec.id != subject.codec.id for each in made)
    return Pool(own, siblings or own, strangers or own, subject.format)


def _samples(seed: int) -> dict[TensorSpec, list[Array]]:
    """Arrays of each spec: real samples and what the head makes of them; photo-sized ones are drawn."""
    bundle, rng = open_bundle(BUNDLE), np.random.default_rng(seed)
    manifest = bundle.manifest
    head = open_head(bundle, "numpy")
    images = [image[:, :, None].copy() for image in read_idx(TEST_IMAGES)[:_VALID]]
    return {
        manifest.sample: images,
        manifest.cut: [head.run(manifest.preprocess.apply(image)).cut for image in images],
        PHOTO_CUT: list(smooth_tensors(rng, _VALID)),
        PHOTO: [_picture(rng, 4 << number) for number in range(_PICTURES)],
    }


def smooth_tensors(rng: np.random.Generator, count: int) -> Array:
    """float32 (count, *PHOTO_CUT): noise in which neighbours are alike and channels differ in size."""
    channels, height, width = PHOTO_CUT.shape
    coarse = rng.normal(size=(count, channels, height // 2, width // 2))
    fine = 0.2 * rng.normal(size=(count, *PHOTO_CUT.shape))
    sizes = np.geomspace(2.0, 0.05, channels)[:, None, None]
    return ((coarse.repeat(2, axis=2).repeat(2, axis=3) + fine) * sizes).astype(np.float32)


def _picture(rng: np.random.Generator, cells: int) -> Array:
    """A picture of `cells` x `cells` colours that run into each other in 32 shades."""
    height, width, colours = PHOTO.shape
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, colours), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) // 8 * 8
