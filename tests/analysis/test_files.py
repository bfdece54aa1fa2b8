"""Which files are meant, and what is said of those that are no checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lightning_hessian.analysis import read_checkpoint
from lightning_hessian.analysis.files import find_checkpoints
from lightning_hessian.errors import UnreadableCheckpointError
from tests.helpers.checkpoints import fitted
from tests.helpers.fitting import Classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("checkpoints")
    fitted(made, Classifier())
    return made


def test_files_folders_patterns_and_lists_name_each_file_once(tmp_path: Path) -> None:
    names = ["a/1.ckpt", "a/b/2.ckpt", "c/1.ckpt", "c/notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    first, second, third, notes = (str(tmp_path / name) for name in names)
    assert find_checkpoints(tmp_path) == [first, second, third]
    assert find_checkpoints(first) == [first]
    assert find_checkpoints(f"{tmp_path}/*/1.ckpt") == [first, third]
    assert find_checkpoints(f"{tmp_path}/**/*.ckpt") == [first, second, third]
    assert find_checkpoints([third, tmp_path / "a", first]) == [third, first, second]
    assert find_checkpoints(notes) == [notes]
    assert find_checkpoints("s3://bucket/a*.ckpt") == ["s3://bucket/a*.ckpt"]
    with pytest.raises(ValueError, match=r"`checkpoints` must name at least one .* empty list"):
        find_checkpoints([])


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "loss[1].ckpt").touch()
    (tmp_path / "loss1.ckpt").touch()
    path = str(tmp_path / "loss[1].ckpt")
    assert find_checkpoints(path) == [path]


def test_what_matches_nothing_is_kept_to_be_told_of(tmp_path: Path) -> None:
    for path in (str(tmp_path / "missing.ckpt"), f"{tmp_path}/*.ckpt", str(tmp_path)):
        assert find_checkpoints(path) == [path]
    with pytest.raises(UnreadableCheckpointError, match="no file matches this pattern"):
        read_checkpoint(f"{tmp_path}/*.ckpt", weights_only=True)


def test_a_checkpoint_is_read_with_its_weights(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    content = read_checkpoint(str(path), weights_only=True)
    expected = torch.load(path, weights_only=True)
    assert content["state_dict"].keys() == expected["state_dict"].keys()
    assert all(content["state_dict"][k].equal(v) for k, v in expected["state_dict"].items())
    assert read_checkpoint(str(path), weights_only=True, only_survey=True)["global_step"] == 3


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def garbage(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_list(path: Path) -> None:
    torch.save([1, 2], path)


def bare_weights(path: Path) -> None:
    torch.save(Classifier().state_dict(), path)


def no_step(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["global_step"]
    torch.save(content, path)


def an_object(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"remark": Path("a")}, path)


def absent(path: Path) -> None:
    path.unlink()


def empty_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sharded(path: Path) -> None:
    empty_folder(path)
    (path / ".metadata").touch()


BROKEN = {
    cut_short: "it is damaged, cut short, or no checkpoint .RuntimeError: PytorchStreamReader",
    garbage: "it is damaged, cut short, or no checkpoint",
    empty: "it is damaged, cut short, or no checkpoint .EOFError",
    a_list: "it holds a list without a 'state_dict'",
    bare_weights: "it holds a OrderedDict without a 'state_dict'",
    no_step: "it lacks global_step, so it is no checkpoint",
    an_object: r"objects other than tensors and primitives \(pathlib.*give `weights_only=False`",
    absent: "there is no such file",
    empty_folder: "it is a folder without a `.*.ckpt` file",
    sharded: "it is a sharded checkpoint. Make one file of it by `python -m lightning.pytorch",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("only_survey", [False, True])
def test_a_broken_or_foreign_file_is_told_apart(
    folder: Path, tmp_path: Path, spoil: object, only_survey: bool
) -> None:
    path = tmp_path / "spoilt.ckpt"
    path.write_bytes(sorted(folder.iterdir())[0].read_bytes())
    spoil(path)  # type: ignore[operator]
    with pytest.raises(UnreadableCheckpointError, match=BROKEN[spoil]):  # type: ignore[index]
        read_checkpoint(str(path), weights_only=True, only_survey=only_survey)


def test_objects_are_read_from_a_file_that_is_trusted(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trusted.ckpt"
    path.write_bytes(sorted(folder.iterdir())[0].read_bytes())
    an_object(path)
    assert read_checkpoint(str(path), weights_only=False)["remark"] == Path("a")


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return os.putenv, ("LIGHTNING_HESSIAN_TEST_PICKLE", "ran")


def test_no_code_in_a_file_is_run(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    content = torch.load(sorted(folder.iterdir())[0], weights_only=True)
    torch.save(content | {"remark": RunsCode()}, path)
    with pytest.raises(UnreadableCheckpointError, match=r"\(posix.putenv\)"):
        read_checkpoint(str(path), weights_only=True)
