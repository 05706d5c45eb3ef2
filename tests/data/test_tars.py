"""Archives and shards as other programs leave them, and as they are when they are cut."""

import io
import json
import tarfile

import pytest
from PIL import Image

from recnext.data import open_dataset, open_split
from recnext.data.tars import read_tar, write_index
from recnext.errors import RecNextError


def png(level=0):
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(content, "png")
    return content.getvalue()


def write(path, files, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def nested(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def test_archives_of_class_folders_and_of_archives(tmp_path):
    files = {"./cat/._0.png": b"\0\5\x16\7", "./cat/0.png": png(10), "__MACOSX/cat/1.png": b"", "./dog/1.jfif": png(20)}
    write(tmp_path / "train.tar", files)
    write(tmp_path / "val.tar", {"cat.tar": nested({"a.png": png(30)}), "dog.tar": nested({"b.png": png(40)})})
    splits = open_dataset(f"tar:{tmp_path}")
    assert (splits.class_names, len(splits.train), len(splits.val)) == (("cat", "dog"), 2, 2)
    for split, levels in ((splits.train, [10, 20]), (splits.val, [30, 40])):
        assert [split[index][0].getpixel((0, 0))[0] for index in range(2)] == levels
        assert split.labels == [0, 1]
    assert splits.val.name(1).endswith("val.tar:dog.tar:b.png")
    (tmp_path / "val.tar").unlink()
    for name in ("cat", "dog"):
        write(tmp_path / "val" / f"{name}.tar", {"0.png": png(5)})
        (tmp_path / "val" / f"._{name}.tar").write_bytes(b"\0\5\x16\7")
    assert open_split(f"tar:{tmp_path}", split="val").labels == [0, 1]


def test_archives_that_are_cut_or_compressed_are_refused(tmp_path):
    path = write(tmp_path / "val.tar", {f"cat/{number}.png": png(number) for number in range(9)})
    content = path.read_bytes()
    for length in (1024, 1300, 5 * 1024):  # between two images, within one, between others
        path.write_bytes(content[:length])
        with pytest.raises(RecNextError, match=r"val\.tar is no tar archive, is compressed, or is cut off"):
            open_split(f"tar:{tmp_path}", split="val")
    path.write_bytes(content[:2048] + b"x" * 512 + content[2560:])
    with pytest.raises(RecNextError, match=r"val\.tar is no tar archive, is compressed, or is cut off"):
        open_split(f"tar:{tmp_path}", split="val")
    write(path, {"cat/0.png": png()}, "w:gz")
    with pytest.raises(RecNextError, match="is compressed"):
        open_split(f"tar:{tmp_path}", split="val")
    write(path, {"0.png": png()})
    with pytest.raises(RecNextError, match="in no class folder"):
        open_split(f"tar:{tmp_path}", split="val")


def test_a_size_below_zero_ends(tmp_path):
    """tarfile goes backwards by it, and round in circles."""
    entry = tarfile.TarInfo("cat/0.png")
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "val.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(RecNextError, match=r"val\.tar is no tar archive"):
        open_split(f"tar:{tmp_path}", split="val")
    assert [record.problem.partition(":")[0] for record in read_tar(str(tmp_path / "val.tar"))] == [
        "the shard ends here"
    ]


def test_keys_of_shards_may_have_dots_and_further_files_belong_to_their_image(tmp_path):
    files = {}
    for number in range(3):
        key = f"img.v1.{number:03d}"
        files |= {f"{key}.cls": str(number).encode(), f"{key}.jpg": png(number), f"{key}.seg.png": png(9)}
        files |= {f"{key}.json": b"{}", f"._{key}.jpg": b"\0\5\x16\7"}
    files |= {"a/b.png": png(7), "a/b.mask.png": png(9), "a/b.cls": b"7"}
    records = list(read_tar(str(write(tmp_path / "x.tar", files))))
    assert [(record.name.rpartition(":")[2], record.label, record.problem) for record in records] == [
        ("img.v1.000", 0, ""),
        ("img.v1.001", 1, ""),
        ("img.v1.002", 2, ""),
        ("a/b", 7, ""),
    ]
    assert records[3].data == png(7)


def test_problems_of_records_are_said(tmp_path):
    files = {"a.cls": b"0", "b.png": png(), "c.png": png(), "c.cls": b"red", "d.png": b"", "d.cls": b"1"}
    records = list(read_tar(str(write(tmp_path / "x.tar", files))))
    assert [record.problem.partition(":")[0] for record in records] == [
        "no .jpg, .png or .webp in the shard",
        "no .cls with it",
        "its .cls holds b'red'",
        "empty, or larger than 256 MiB",
    ]
    (gone,) = read_tar(str(tmp_path / "gone.tar"))
    assert gone.problem == "the shard ends here: No such file or directory"


def shards(root):
    for split in ("train", "val"):
        for part in range(2):
            files = {f"{part}{n}.{kind}": data for n in range(4) for kind, data in (("cls", b"1"), ("png", png(n)))}
            write(root / f"{split}-interval-{part}.tar", files)
    return write_index(root)


def test_a_shard_that_ends_between_two_images_is_noticed(tmp_path):
    assert shards(tmp_path) == {"train": (2, 8), "validation": (2, 8)}
    path = tmp_path / "val-interval-1.tar"
    path.write_bytes(path.read_bytes()[: 2 * 2048])
    source = open_split(f"wds:{tmp_path}", split="val")
    problems = [record.problem for shard in range(2) for record in source.read(shard) if record.problem]
    assert problems == ["the shard ends after 2 of 4 images: it is cut off, or _info.json is old"]


def test_labels_that_are_no_classes_are_problems(tmp_path):
    shards(tmp_path)
    info = json.loads((tmp_path / "_info.json").read_text())
    (tmp_path / "_info.json").write_text(json.dumps({**info, "class_names": ["only"]}))
    records = list(open_split(f"wds:{tmp_path}", split="val").read(0))
    assert {record.problem for record in records} == {"its label is 1: expected 0 to 0"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"[]", "expected a JSON object, not list"),
        (b"\xff\x00", "no UTF-8 text"),
        (b"{}", "has no 'splits'"),
        (b'{"splits": {"train": 3}}', "lists no split train"),
        (b'{"splits": {"train": {}}}', "has no 'class_names'"),
        (b'{"splits": {"train": {}}, "class_names": [1, 2]}', "has no 'class_names'"),
        (rb'{"splits": {"train": {"filenames": [], "num_samples": 0}}, "class_names": ["\udce9"]}', "is not UTF-8"),
        (b'{"splits": {"train": {}}, "class_names": ["a"]}', "has no 'filenames' and 'num_samples'"),
        (b'{"splits": {"train": {"filenames": ["x"], "num_samples": -1}}, "class_names": ["a"]}', "has no 'filenames'"),
        (b'{"splits": {"train": {"filenames": ["x"], "num_samples": 1e99}}, "class_names": ["a"]}', "has no 'file"),
        (b'{"splits": {"train": {"filenames": ["../x"], "num_samples": 1}}, "class_names": ["a"]}', "names '../x'"),
    ],
)
def test_an_index_that_is_none_is_one_line(tmp_path, content, message):
    (tmp_path / "_info.json").write_bytes(content)
    with pytest.raises(RecNextError, match=message) as caught:
        open_split(f"wds:{tmp_path}", split="train")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
