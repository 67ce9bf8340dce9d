"""``keylift weights import``: checkpoints as the field has them become weights files, or are refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from keylift.__main__ import main
from keylift.core import restricted_pickle, torch_archive
from keylift.core.errors import WeightsError
from keylift.core.lifter.checkpoint_import import (
    INPUT_LAYOUTS,
    OUTPUT_SKELETONS,
    ImportedLifter,
    import_checkpoint,
    layout_doubt,
)
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.skeletons import H36M_17, KEYPOINT_LAYOUTS
from keylift.core.torch_archive import read_torch_archive
from keylift.core.weights import read_header, read_tensors
from keylift.shell import weights

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


class Published(nn.Module):
    """A network with the parameters of a published one; nothing of ours."""

    def __init__(
        self, values_in: int = 34, joints: int = 17, kernels: tuple[int, ...] = (3, 3, 3), channels: int = 8
    ) -> None:
        super().__init__()
        self.expand_conv = nn.Conv1d(values_in, channels, kernels[0], bias=False)
        self.expand_bn = nn.BatchNorm1d(channels)
        all_kernels = [kernel for width in kernels[1:] for kernel in (width, 1)]
        self.layers_conv = nn.ModuleList(nn.Conv1d(channels, channels, kernel, bias=False) for kernel in all_kernels)
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in all_kernels)
        self.shrink = nn.Conv1d(channels, 3 * joints, 1)


def checkpoint(path: Path, network: nn.Module, *, is_zip: bool = True, **more: Any) -> Path:
    """A training checkpoint, with an optimiser that has made a step and a random state."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True)
    sum((parameter**2).sum() for parameter in network.parameters()).backward()
    optimiser.step()
    content = {
        "epoch": 80,
        "lr": np.float64(1e-3),
        "random_state": np.random.RandomState(1234),
        "optimizer": optimiser.state_dict(),
        "model_pos": network.state_dict(),
        "model_traj": None,
        "random_state_semi": None,
    }
    torch.save(content | more, path, _use_new_zipfile_serialization=is_zip)
    return path


def assert_parameters(tensors: dict[str, torch.Tensor], network: nn.Module, prefix: str = "") -> None:
    for name, value in network.state_dict().items():
        assert torch.equal(tensors[prefix + name], value), name


@FORMATS
def test_every_parameter_arrives_as_it_was(is_zip: bool, tmp_path: Path) -> None:
    network = Published()
    path = checkpoint(tmp_path / "cpn.bin", network, is_zip=is_zip)
    output = tmp_path / "x.safetensors"
    arguments = ["weights", "import", str(path), "--input-layout", "h36m17", "--fps", "50", "-o", str(output)]
    assert main([*arguments, "--licence", "CC BY-NC 4.0"]) == 0
    tensors, header = read_tensors(output), read_header(output)
    assert set(tensors) == set(network.state_dict())
    assert_parameters(tensors, network)
    config = LifterConfig.from_dict(header["lifter"])
    TemporalLifter(config).load_state_dict(tensors)
    assert (config.points_in, config.features_in, config.joints_out) == (17, 2, 17)
    assert (config.channels, config.widths, config.causal) == (8, (3, 3, 3), False)
    assert header["input_layout"] == "h36m17" and header["fps"] == 50 and header["licence"] == "CC BY-NC 4.0"
    assert tuple(header["skeleton"]["names"]) == H36M_17.names
    assert header["training"]["epoch"] == 80
    assert header["training"]["imported_from"]["name"] == "cpn.bin"
    assert "trajectory" not in header


@FORMATS
def test_the_trajectory_network_comes_along(is_zip: bool, tmp_path: Path) -> None:
    network, moving = Published(51), Published(51, joints=1, channels=4)
    path = checkpoint(tmp_path / "x.bin", network, is_zip=is_zip, model_traj=moving.state_dict())
    lifter = import_checkpoint(path, input_layout="coco17", causal=True)
    assert_parameters(lifter.tensors, network)
    assert_parameters(lifter.tensors, moving, "trajectory.")
    assert lifter.config.features_in == 3 and lifter.config.causal
    found = LifterConfig.from_dict(lifter.header["trajectory"])
    assert (found.joints_out, found.channels, found.causal) == (1, 4, True)
    assert "non-commercial" in lifter.header["licence"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_way_to_wrap_parameters(prefix: str, tmp_path: Path) -> None:
    network, moving = Published(), Published(joints=1)
    state, moved = ({prefix + name: value for name, value in one.state_dict().items()} for one in (network, moving))
    both = {"model_pos": state, "model_traj": moved}
    for place, content in enumerate((state, {"state_dict": state, "epoch": 7}, both, {"state_dict": both})):
        path = tmp_path / f"{place}.bin"
        torch.save(content, path)
        lifter = import_checkpoint(str(path), input_layout="h36m17")
        assert_parameters(lifter.tensors, network)
        assert (lifter.trajectory is not None) is (place > 1)
        assert lifter.header["training"].get("epoch") == (7 if place == 1 else None)
        assert lifter.header["training"]["imported_from"]["name"] == path.name
    for empty in ({"state_dict": {}}, {"state_dict": 3}, {"optimizer": state}):
        torch.save(empty, tmp_path / "x.bin")
        with pytest.raises(WeightsError, match="model_pos|no dict"):
            import_checkpoint(tmp_path / "x.bin", input_layout="h36m17")


def test_missing_counters_prefixes_and_bare_parameters(tmp_path: Path) -> None:
    network = Published(30, joints=15)
    state = {
        f"module.{name}": value for name, value in network.state_dict().items() if "num_batches_tracked" not in name
    }
    torch.save({"model_pos": OrderedDict(state)}, tmp_path / "a.bin")
    torch.save(network.state_dict(), tmp_path / "b.bin")
    for name in ("a.bin", "b.bin"):
        lifter = import_checkpoint(tmp_path / name, input_layout="humaneva15")
        assert_parameters(lifter.tensors, network)
        assert lifter.skeleton_name == "humaneva15"


def test_random_states_of_other_versions_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    checkpoint(path, Published(), is_zip=False)
    content = path.read_bytes()
    for old, new in (
        (b"cnumpy.random._pickle\n__randomstate_ctor\n", b"cnumpy.random\n__RandomState_ctor\n"),
        (b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"),
    ):
        path.write_bytes(content.replace(old, new))
        import_checkpoint(path, input_layout="h36m17")


@FORMATS
def test_the_seed_of_a_random_state_is_let_in_and_left_alone(is_zip: bool, tmp_path: Path) -> None:
    seed = np.random.SeedSequence(3)
    assert b"__pyx_unpickle_SeedSequence" in pickle.dumps(seed, 2)
    path = checkpoint(tmp_path / "x.bin", Published(), is_zip=is_zip, random_state=seed)
    import_checkpoint(path, input_layout="h36m17")
    assert not isinstance(read_torch_archive(str(path))["random_state"], np.random.SeedSequence)


def dense_kernels(*widths: int) -> tuple[int, ...]:
    return tuple((width - 1) * prod(widths[:place]) + 1 if place else width for place, width in enumerate(widths))


def imported(tmp_path: Path, *, widths: tuple[int, ...] = (), **sizes: Any) -> ImportedLifter:
    torch.save({"model_pos": Published(**sizes).state_dict()}, tmp_path / "x.bin")
    return import_checkpoint(tmp_path / "x.bin", input_layout="h36m17", widths=widths)


@pytest.mark.parametrize("widths", [(1,), (3,), (1, 1, 1), (5, 3), (3, 3, 3, 3, 3), (7, 5, 3)])
def test_widths_are_told_by_the_shapes(widths: tuple[int, ...], tmp_path: Path) -> None:
    assert imported(tmp_path, kernels=widths).config.widths == widths


def test_the_dense_ablation_is_known_where_it_can_be(tmp_path: Path) -> None:
    long = imported(tmp_path, kernels=dense_kernels(3, 3, 3, 3, 3), channels=2).config
    assert long.widths == (3, 3, 3, 3, 3) and long.as_dict()["dense"] is True
    with pytest.raises(WeightsError, match=r"--widths 3,7,19 or --widths 3,3,3"):
        imported(tmp_path, kernels=(3, 7, 19))
    assert imported(tmp_path, kernels=(3, 7, 19), widths=(3, 7, 19)).config.widths == (3, 7, 19)
    assert imported(tmp_path, kernels=(3, 7, 19), widths=(3, 3, 3)).config.as_dict()["dense"] is True
    with pytest.raises(WeightsError, match="do not fit the widths 5,5,5"):
        imported(tmp_path, kernels=(3, 7, 19), widths=(5, 5, 5))


def test_a_layout_of_other_points_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.bin", Published(30, joints=15))
    with pytest.raises(WeightsError, match=r"15 points x 2 or 10 points x 3.*'coco17' has 17.*humaneva15"):
        import_checkpoint(path, input_layout="coco17")
    with pytest.raises(WeightsError, match=r"gives 15 joints.*'h36m17' has 17"):
        import_checkpoint(path, input_layout="humaneva15", skeleton="h36m17")


def test_what_is_no_such_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    whole = dict(Published().state_dict())
    without = {name: value for name, value in whole.items() if name != "layers_bn.1.running_var"}
    other = whole | {"layers_conv.1.weight": torch.zeros(8, 8, 3)}
    broken = whole | {"shrink.bias": torch.full((51,), torch.nan)}
    for state, told in (
        ({}, "expand_conv.weight"),
        (without, r"layers_bn\.1\.running_var"),
        (other, r"layers_conv\.1\.weight"),
        (whole | {"attention.weight": torch.zeros(1)}, "attention"),
        (broken, "shrink.bias"),
        ([1, 2], "no dict of tensors"),
        (None, "no 'model_pos'"),
    ):
        torch.save({"model_pos": state}, path)
        with pytest.raises(WeightsError, match=told):
            import_checkpoint(path, input_layout="h36m17")


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@FORMATS
@pytest.mark.parametrize("where", ["optimizer", "random_state", "model_pos"])
def test_a_checkpoint_that_runs_something_is_refused(
    where: str, is_zip: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker, output = tmp_path / "done", tmp_path / "x.safetensors"
    for attack in (Calls(os.system, f"echo > {marker}"), Calls(eval, f"open({str(marker)!r}, 'w')")):
        path = checkpoint(tmp_path / "x.bin", Published(), is_zip=is_zip, **{where: attack})
        assert main(["weights", "import", str(path), "--input-layout", "h36m17", "-o", str(output)]) == 1
        assert "which no data needs" in capsys.readouterr().err
        assert not marker.exists() and not output.exists()


@FORMATS
def test_a_checkpoint_cut_short_is_refused(is_zip: bool, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.bin", Published(), is_zip=is_zip)
    content = path.read_bytes()
    for kept in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        if kept == len(content) - 1 and not is_zip:
            continue  # what is missing is the optimiser's
        with pytest.raises(WeightsError, match=r"x\.bin"):
            import_checkpoint(path, input_layout="h36m17")
    path.write_bytes(b"PK\x03\x04 not a checkpoint at all")
    with pytest.raises(WeightsError, match="not a checkpoint"):
        read_torch_archive(path)


def test_sizes_that_lie_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bin"
    torch.save({"model_pos": {"shrink.bias": torch.zeros(51)}}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"K3", b"J\xff\xff\xff\x3f"))
    with pytest.raises(WeightsError, match="sizes|content"):
        import_checkpoint(path, input_layout="h36m17")
    # A tensor of more numbers than its storage has would show what else is in memory.
    path.write_bytes(content.replace(b"K3\x85", b"J\xff\xff\x00\x00\x85"))
    with pytest.raises(WeightsError, match="larger than its content"):
        import_checkpoint(path, input_layout="h36m17")
    monkeypatch.setattr(torch_archive, "MAX_FILE_BYTES", 10)
    with pytest.raises(WeightsError, match="far larger"):
        read_torch_archive(path)
    monkeypatch.undo()
    monkeypatch.setattr(restricted_pickle, "MAX_UNPACKED_BYTES", 1000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps(bytes(2000), 2))
    with pytest.raises(WeightsError, match="far more"):
        read_torch_archive(path)


def test_a_causal_name_wants_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "cpn-ft-243-dbb-causal.bin", Published())
    output = tmp_path / "x.safetensors"
    arguments = ["weights", "import", str(path), "--input-layout", "h36m17", "-o", str(output)]
    assert main(arguments) == 1
    assert "--no-causal" in capsys.readouterr().err and not output.exists()
    for word, causal in (("--causal", True), ("--no-causal", False)):
        assert main([*arguments, word]) == 0
        assert read_header(output)["lifter"]["causal"] is causal


@pytest.mark.parametrize(
    ("name", "layout", "doubtful"),
    [
        ("pretrained_h36m_cpn.bin", "h36m17", False),
        ("pretrained_h36m_cpn.bin", "coco17", True),
        ("pretrained_h36m_detectron_coco.bin", "coco17", False),
        ("pretrained_h36m_detectron_coco.bin", "h36m17", True),
        ("cpn-pt-243.bin", "h36m17", True),
        ("cpn-pt-243.bin", "coco17", False),
        ("cpn-ft-243-dbb-causal.bin", "h36m17", False),
        ("cpn-ft-243-dbb-causal.bin", "coco17", True),
        ("CPN_FT.bin", "coco17", True),
        ("d-ft-243.bin", "coco17", True),
        ("h36m-dbb.bin", "coco17", True),
        ("d-pt-243.bin", "coco17", False),
        ("d-pt-243.bin", "h36m17", True),
        ("pretrained_humaneva15_detectron.bin", "coco17", False),
        ("d-pt-243.bin", "humaneva15", False),
        ("old-pt-3.bin", "h36m17", False),
        ("my-ftness.bin", "coco17", False),
        ("mine.bin", "h36m17", False),
        ("mine.bin", "coco17", False),
    ],
)
def test_names_that_do_not_go_with_the_layout(name: str, layout: str, doubtful: bool) -> None:
    assert (layout_doubt(name, layout) is not None) is doubtful


def test_points_and_joints_are_told_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "d-pt-243.bin", Published(51))
    arguments = ["weights", "import", str(path), "--input-layout", "h36m17", "-o", str(tmp_path / "x.safetensors")]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "0 pelvis, 1 right_hip, 2 right_knee" in told.out and "score" in told.out
    assert "coco17" in told.err
    assert main([*arguments, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["output_joints"] == list(H36M_17.names) and values["frames"] == 27


def test_the_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.safetensors", Published())
    before = path.read_bytes()
    assert main(["weights", "import", str(path), "--input-layout", "h36m17", "-o", str(path)]) == 1
    assert path.read_bytes() == before


def test_the_shell_offers_what_the_import_knows() -> None:
    assert weights._INPUT_LAYOUTS == INPUT_LAYOUTS and set(INPUT_LAYOUTS) <= set(KEYPOINT_LAYOUTS)
    assert weights._OUTPUT_SKELETONS == OUTPUT_SKELETONS
