"""Tiny but real bundles for tests: a split pair with a linear early exit on 8x8 grey samples."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from schemas.bundle import FULL, HEAD_NUMPY, MANIFEST, TAIL, Manifest, seal
from schemas.bundle_files import Bundle, open_bundle

LABELS = ("zero", "one", "two", "three")
MAX_EXPORT_BATCH = 64
