"""The bridge on graphs of the shared zoo and on trained models; both lie beside the checkout."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from prunecvt.bridge import to_module, with_weights  # noqa: E402
from prunecvt.loading.load import load  # noqa: E402
from prunecvt_passes import oracle, runtime  # noqa: E402
from prunecvt_passes.model import Model  # noqa: E402
from prunecvt_passes.samples import probes, random_inputs  # noqa: E402

SHARED = Path(__file__).parent.parent.parent / "shared"
SKELETONS = SHARED / "zoo" / "skeletons.tar.xz"
TRAINED = ("cifar10_resnet20.tsbn", "cifar10_resnet20.dyn", "nanodet_m", "ultraface_RFB_320")
GRAPHS = (
    *("densenet121.tsbn", "micro_crnn_lstm.ts", "micro_groupnorm_prelu.dyn", "micro_unet_ct.tsbn"),
    *("micro_unet_up.tsbn", "micro_yolo.ts", "micro_pixelshuffle_sr.ts", "micro_kws1d.tsbn"),
    *("shufflenet_v2_x1_0.tsbn", "mobileone_s0.dyn", "swin_small_cfg.ts", "vit_small_cfg.dyn"),
    *("micro_shared_conv.tsbn", "resnest14d.ts", "edgenext_xx_small.tsbn"),
)

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def zoo() -> dict[str, Model]:
    """The named graphs, with weights filled in."""
    if not SKELETONS.is_file():
        pytest.skip("no folder shared/zoo beside the checkout")
    script = SKELETONS.with_name("materialize.py")
    spec = importlib.util.spec_from_file_location("materialize", script)
    assert spec is not None
    assert spec.loader is not None
    filling: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(filling)
    found = {}
    with tarfile.open(SKELETONS) as archive:
        for member in archive:
            name = Path(member.name).name.removesuffix(".skel.onnx")
            stored = archive.extractfile(member) if name in GRAPHS else None
            if stored is not None:
                proto = filling.materialize(onnx.load_model_from_string(stored.read()))
                found[name] = Model.take(proto, name)
    return found


def check(model: Model) -> None:
    """The module's outputs are onnxruntime's, also with other weights."""
    module = to_module(model, train=True).eval()
    sizes = next(probes(model, {}))[0]
    inputs = random_inputs(model, sizes)
    given = {name: torch.from_numpy(values) for name, values in inputs.items()}
    with torch.no_grad():
        made = {name: value.numpy() for name, value in module(given).items()}
        assert oracle.difference(runtime.run(model, inputs), made).relative < 1e-5
        for parameter in module.parameters():
            parameter.mul_(1.01)
        made = {name: value.numpy() for name, value in module(given).items()}
    tuned = with_weights(model, module)
    assert oracle.difference(runtime.run(tuned, inputs), made).relative < 1e-5
    assert tuned.proto.graph.node == model.proto.graph.node


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_of_many_architectures(name: str, zoo: dict[str, Model]) -> None:
    check(zoo[name])


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models(name: str) -> None:
    path = SHARED / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("no folder shared/models beside the checkout")
    check(load(path))


def test_a_trained_network_is_trained_further() -> None:
    path = SHARED / "models" / "cifar10_resnet20.tsbn.onnx"
    data = SHARED / "data" / "cifar10_train10k.npz"
    if not (path.is_file() and data.is_file()):
        pytest.skip("no folder shared beside the checkout")
    with np.load(data) as stored:
        images, labels = stored["images"][:512], stored["labels"][:512]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))
    module = to_module(path)
    with torch.no_grad():
        assert float((module(x[:128]).argmax(1) == y[:128]).float().mean()) > 0.9
    head = next(p for p in module.parameters() if p.ndim == 2)
    with torch.no_grad():
        head.zero_()
    others = [p for p in module.parameters() if p is not head]
    rates = [{"params": others, "lr": 1e-3}, {"params": [head], "lr": 0.5}]
    optimizer = torch.optim.SGD(rates)
    losses = []
    module.train()
    for start in range(0, 512, 64):
        optimizer.zero_grad()
        part = slice(start, start + 64)
        loss = torch.nn.functional.cross_entropy(module(x[part]), y[part])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 2
    assert losses[-1] < losses[0] / 2
