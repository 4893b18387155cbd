"""SplitModelExecutor, both halves in one process: head -> codec -> tail equals the unsplit model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_worker.compute import ComputeThread
from cloud_worker.tails import Frame, load_tail
from edge_node.heads import open_head
from tests.bundles import AFFINE_POINT, MINMAX_POINT, make_bundle, samples, tiny_pair


async def test_head_codec_and_tail_equal_the_unsplit_model(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    manifest, pair = bundle.manifest, tiny_pair()
    head = open_head(bundle, "numpy")
    with ComputeThread() as thread:
        tail = await load_tail(bundle, thread, max_batch=16, trusted=True)
        for sample in samples(16, seed=11):
            output = head.run(manifest.preprocess.apply(sample))
            np.testing.assert_allclose(output.cut, pair.cut(sample), atol=1e-5)
            logits = pair.logits(pair.cut(sample)) / manifest.tail_temperature
            powers = np.exp(logits - logits.max())
            for point_id in (AFFINE_POINT, MINMAX_POINT):
                point = manifest.point(point_id)
                assert point is not None
                payload = bundle.codec(point).encode(output.cut)
                (answers,) = (await tail.run("tail", [Frame(point, (payload,))])).frames
                assert isinstance(answers, tuple)
                assert answers[0].label == int(powers.argmax())
                assert answers[0].confidence == pytest.approx(float(powers.max() / powers.sum()), abs=0.01)
