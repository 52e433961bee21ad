"""The face nets say what the originals say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from faces import original, portrait

from workers.models.face import mesh
from workers.models.face.blendshapes import NAMES, SEEN, BlendshapeNet
from workers.models.face.detector import Detector, DetectorNet
from workers.models.face.landmarks import LandmarkNet
from workers.models.face.weights import WEIGHTS, load_net


@pytest.fixture(autouse=True)
def _no_gradients():  # type: ignore[no-untyped-def]  # a generator for pytest alone
    with torch.inference_mode():
        yield


def test_the_detector_agrees_with_the_original() -> None:
    picture = F.avg_pool2d(portrait() * 255, 2) / 127.5 - 1
    boxes, scores = load_net(DetectorNet, "detector")(picture)
    assert (boxes[0] - original()["boxes"]).abs().max() < 0.01
    assert (scores[0] - original()["scores"]).abs().max() < 0.01


def test_the_landmarks_agree_with_the_original_within_a_hundredth_of_a_pixel() -> None:
    points, score = load_net(LandmarkNet, "landmarks")(portrait())
    assert (points[0] - original()["points"]).abs().max() < 0.01
    assert (score[0] - original()["score"]).abs() < 0.01


def test_in_half_precision_the_landmarks_stay_within_a_seventh_of_a_pixel() -> None:
    points, score = load_net(LandmarkNet, "landmarks").halve()(portrait())
    assert points.dtype == score.dtype == torch.float32
    assert (points[0] - original()["points"]).abs().max() < 0.15


def test_in_half_precision_the_detector_finds_the_same_place() -> None:
    one = Detector(load_net(DetectorNet, "detector"))(portrait())
    half = Detector(load_net(DetectorNet, "detector").halve())(portrait())
    assert (one.region - half.region).abs().max() < 1
    assert (one.score - half.score).abs().max() < 0.01


def test_the_blendshapes_agree_with_the_original() -> None:
    shapes = load_net(BlendshapeNet, "blendshapes")(original()["points"][None, list(SEEN), :2])
    assert (shapes[0] - original()["blendshapes"]).abs().max() < 1e-4
    assert len(NAMES) == shapes.shape[1]
    assert shapes[0, NAMES.index("mouthSmileLeft")] > 0.5  # she smiles


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    net = load_net(LandmarkNet, "landmarks")
    both = torch.cat([portrait(), torch.rand(1, 3, 256, 256)])
    other = torch.cat([portrait(), torch.zeros(1, 3, 256, 256)])
    assert torch.equal(net(both)[0][0], net(other)[0][0])
    assert (net(both)[0][0] - net(portrait())[0][0]).abs().max() < 0.01


def test_loading_draws_no_random_numbers() -> None:
    before = torch.random.get_rng_state()
    load_net(LandmarkNet, "landmarks")
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_mesh_is_a_face_that_looks_at_the_camera() -> None:
    face = mesh.canonical()
    assert face.vertices.shape == (468, 3) and face.faces.shape == (898, 3)
    assert face.faces.max() == 467 and abs(float(face.weights.sum()) - 1) < 1e-6
    x, y, z = face.vertices.unbind(1)
    assert x[mesh.LEFT_OUTER] > x[mesh.RIGHT_OUTER]  # as a camera sees them, not a mirror
    assert y[mesh.LOWER_LIP] > y[mesh.LEFT_OUTER]
    assert z[4] < z[mesh.LEFT_CHEEK]  # the nose is nearer
    shape = mesh.canonical_shape()
    assert shape.shape == (478, 3)
    assert (shape[mesh.LEFT_IRIS] - shape[[mesh.LEFT_OUTER, mesh.LEFT_INNER]].mean(0)).norm() < 1e-6


def test_every_file_of_weights_is_named_in_the_notice() -> None:
    notice = (WEIGHTS / "NOTICE").read_text()
    files = list(WEIGHTS.glob("*.safetensors"))
    assert len(files) == 4
    assert all(file.name in notice for file in files)
    assert sum(file.stat().st_size for file in files) < 3_700_000
