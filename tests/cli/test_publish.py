import huggingface_hub
import timm

import recnext
from checkpoints.test_publishing import Hub
from cli.command import fails, run


def test_publish_and_push(tmp_path, capsys, monkeypatch):
    weights = recnext.save(recnext.load("test_recnext_m", num_classes=4), tmp_path / "a.safetensors")
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    status, out, _ = run(capsys, "publish", weights, tmp_path / "out", "--push=me/it")
    assert status == 0
    assert "pushed to hub/me/it" in out
    assert "hf-hub:me/it" in (tmp_path / "out" / "README.md").read_text()
    assert timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).num_classes == 4
    assert "no checkpoint" in fails(capsys, "publish", tmp_path / "none", tmp_path / "other")
