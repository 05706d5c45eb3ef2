"""One process and two give the same evaluation, to the last bit."""

import json

import pytest
import torch

from cli.command import run_json
from process_group import run_processes
from recnext.checkpoints import load, save
from recnext.study.demo.digits import CLASS_NAMES, write_folders


@pytest.mark.slow
def test_two_processes_evaluate_as_one(tmp_path, capsys):
    write_folders(tmp_path / "data", per_class=3)
    for number in range(3):
        next((tmp_path / "data" / "val" / str(number)).iterdir()).unlink()  # 27 images: batches of 4 do not fit
    torch.manual_seed(0)
    weights = save(load("test_recnext_m", num_classes=10), tmp_path / "a.safetensors", class_names=CLASS_NAMES)
    command = ["eval", str(tmp_path / "data"), f"--checkpoint={weights}", "--image-size=32"]
    command += ["--batch-size=4", "--workers=0", "--device=cpu"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes below: kernels add up in another order with more
    try:
        alone = run_json(capsys, *command, f"--output={tmp_path / '1'}")
    finally:
        torch.set_num_threads(threads)
    first, second = run_processes([*command, "--json", f"--output={tmp_path / '2'}"])
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert second.stdout == ""  # one process prints
    together = json.loads(first.stdout)
    assert (alone.pop("processes"), together.pop("processes")) == (1, 2)
    del alone["images_per_second"], together["images_per_second"]
    assert alone["images"] == 27
    assert alone == together
    tables = [(tmp_path / str(count) / "per_class.csv").read_bytes() for count in (1, 2)]
    assert tables[0] == tables[1]
