"""Whatever else lies in a folder, its good checkpoints get their numbers, and soon."""

from __future__ import annotations

import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_hessian.analysis import files, precautions, read_checkpoint
from lightning_hessian.analysis.files import find_checkpoints
from lightning_hessian.errors import UnreadableCheckpointError
from tests.helpers.checkpoints import ByEpochAndStep, analyzed, fitted, numbers
from tests.helpers.patience import at_most


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a single checkpoint, of step 3."""
    folder = tmp_path_factory.mktemp("good")
    fitted(folder, ByEpochAndStep(), max_epochs=1)
    return folder


def changed(**entries: Any) -> Callable[[Path, dict[str, Any]], None]:
    """Writes the good checkpoint with other entries."""
    return lambda path, content: torch.save(content | entries, path)


def pipe(path: Path, _: Any) -> None:
    os.mkfifo(path)


def link_to_a_pipe(path: Path, _: Any) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def link_to_a_device(path: Path, _: Any) -> None:
    path.symlink_to("/dev/zero")


def link_to_nothing(path: Path, _: Any) -> None:
    path.symlink_to("gone.ckpt")


def link_to_itself(path: Path, _: Any) -> None:
    path.symlink_to(path.name)


def listening(path: Path, _: Any) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path, _: Any) -> None:
    path.mkdir()


def empty(path: Path, _: Any) -> None:
    path.touch()


def text(path: Path, _: Any) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf8")


def cut_short(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, path)
    os.truncate(path, path.stat().st_size // 2)


def sparse(path: Path, _: Any) -> None:
    """Far larger than any memory, and next to nothing on the disk."""
    path.touch()
    os.truncate(path, 2**43)


def unpacks_to_far_more(path: Path, content: dict[str, Any]) -> None:
    """With the honest parts of a checkpoint, and one that is ten million zeros, packed."""
    torch.save(content, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}/more", bytes(10_000_000))


def hold_each_other(path: Path, content: dict[str, Any]) -> None:
    held: Any = "x"
    for _ in range(12):
        held = [held] * 10
    changed(remark=held)(path, content)


def holds_itself(path: Path, content: dict[str, Any]) -> None:
    held: list[Any] = []
    held.append(held)
    changed(remark=held)(path, content)


def repeats_an_element(path: Path, content: dict[str, Any]) -> None:
    changed(remark=torch.zeros(1).expand(2**44))(path, content)


ODD: dict[Any, str] = {
    pipe: "it is a named pipe, and only regular files are read",
    link_to_a_pipe: "it is a link to a named pipe, and",
    link_to_a_device: "it is a link to a device, and",
    link_to_nothing: "it is a link to gone.ckpt, and there is no such file",
    link_to_itself: "it is a link to odd.ckpt, and there is no such file",
    listening: "it is a socket, and",
    folder: r"it is a folder without a `\*.ckpt` file in it",
    empty: "it is damaged, cut short, or no checkpoint",
    text: "it is damaged, cut short, or no checkpoint",
    cut_short: "it is damaged, cut short, or no checkpoint",
    sparse: "it takes 8,796.1 GB of memory, and there is room for",
    hold_each_other: "hold each other so often that they come to more than 10,000,000 entries",
    holds_itself: "hold each other so often",
    repeats_an_element: "repeat few elements so often that they come to 70,368.7 GB, and there is",
    changed(**{"pytorch-lightning_version": "no number"}): "it is of version 'no number' of .*Inva",
    changed(**{"pytorch-lightning_version": 2}): "it is of version 2 of Lightning, from which",
    changed(global_step="3"): "its 'global_step' must be a whole number of at least 0, got '3'",
    changed(global_step=None): "its 'global_step' must be a whole .*, got None",
    changed(global_step=2.5): "its 'global_step' must be a whole .*, got 2.5",
    changed(global_step=2**63): "its 'global_step' must be a whole .*, got 9223372036854775808",
    changed(epoch=-1): "its 'epoch' must be a whole number of at least 0, got -1",
    changed(epoch=[1]): r"its 'epoch' must be a whole number of at least 0, got \[1\]",
}


@pytest.mark.parametrize("only_survey", [False, True])
@pytest.mark.parametrize("make", ODD, ids=ODD.get)
def test_what_is_no_readable_checkpoint_is_refused_with_its_reason_and_at_once(
    good: Path, tmp_path: Path, make: Any, only_survey: bool
) -> None:
    content = torch.load(next(good.iterdir()), weights_only=True)
    make(tmp_path / "odd.ckpt", content)
    with at_most(10), pytest.raises(UnreadableCheckpointError, match=ODD[make]):
        read_checkpoint(str(tmp_path / "odd.ckpt"), weights_only=True, only_survey=only_survey)


def test_good_files_get_their_numbers_among_all_that_are_not(good: Path, tmp_path: Path) -> None:
    alone = analyzed(ByEpochAndStep(), good)
    (path,) = good.iterdir()
    content = torch.load(path, weights_only=True)
    (tmp_path / "good.ckpt").write_bytes(path.read_bytes())
    # a step is a whole number in every form that it may have
    changed(global_step=torch.tensor(3))(tmp_path / "tensor.ckpt", content)
    for number, make in enumerate(ODD):
        below = tmp_path / str(number)
        below.mkdir()
        make(below / "odd.ckpt", content)
    with at_most(60), pytest.warns(UserWarning, match="is skipped"):
        reports = analyzed(ByEpochAndStep(), tmp_path)
    assert [Path(str(r.ckpt_path)).name for r in reports[:2]] == ["good.ckpt", "tensor.ckpt"]
    assert [numbers(report) for report in reports[:2]] == [numbers(alone[0])] * 2
    assert len(reports) == 2 + len(ODD)
    assert None not in {report.failure for report in reports[2:]}


def test_an_archive_counts_by_what_it_unpacks_to(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = good.iterdir()
    packed = tmp_path / "packed.ckpt"
    unpacks_to_far_more(packed, torch.load(path, weights_only=True))
    assert packed.stat().st_size < 10_000_000 < precautions.unpacked_size(str(packed))
    monkeypatch.setattr(precautions, "host_memory", lambda: 9_000_000)
    with pytest.raises(UnreadableCheckpointError, match=r"it takes 0\.0 GB of memory, and"):
        read_checkpoint(str(packed), weights_only=True)
    assert read_checkpoint(str(path), weights_only=True)["global_step"] == 3
    monkeypatch.setattr(precautions, "host_memory", lambda: None)
    assert read_checkpoint(str(packed), weights_only=True)["global_step"] == 3


def test_a_link_to_a_checkpoint_is_one(good: Path, tmp_path: Path) -> None:
    (tmp_path / "link.ckpt").symlink_to(next(good.iterdir()))
    (path,) = find_checkpoints(tmp_path)
    assert read_checkpoint(path, weights_only=True)["global_step"] == 3


def test_a_folder_named_like_a_checkpoint_counts_for_what_is_in_it(tmp_path: Path) -> None:
    for name in ("run.ckpt/1.ckpt", "sharded.ckpt/.metadata", "empty.ckpt/notes.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    names = ["empty.ckpt", "run.ckpt/1.ckpt", "sharded.ckpt"]
    assert find_checkpoints(tmp_path) == [str(tmp_path / name) for name in names]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told_apart(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "locked.ckpt"
    path.write_bytes(next(good.iterdir()).read_bytes())
    path.chmod(0)
    with pytest.raises(UnreadableCheckpointError, match=r"it cannot be read .PermissionError"):
        read_checkpoint(str(path), weights_only=True)


def test_an_error_of_the_disk_is_told_as_one(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.torch, "load", refuse)
    with pytest.raises(UnreadableCheckpointError, match=r"it cannot be read .PermissionError: "):
        read_checkpoint(str(next(good.iterdir())), weights_only=True)


def test_the_summary_names_what_has_no_numbers(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.ckpt").write_bytes(next(good.iterdir()).read_bytes())
    # a name that is no text, and so cannot be printed as it is
    for name in (b"pipe.ckpt", b"\xff.ckpt"):
        os.mkfifo(os.fsencode(tmp_path) + b"/" + name)
    with at_most(60), pytest.warns(UserWarning, match="is skipped"):
        analyzed(ByEpochAndStep(), tmp_path, verbose=True)
    shown = capsys.readouterr().out
    reason = "it is a named pipe, and only regular files are read"
    assert shown.endswith(
        "\n\n1 of 3 checkpoints measured, 2 without numbers:\n"
        f"  {tmp_path}/pipe.ckpt: {reason}\n  {tmp_path}/\\udcff.ckpt: {reason}\n"
    )
    analyzed(ByEpochAndStep(), good, verbose=True)
    assert capsys.readouterr().out.endswith("\n\n1 of 1 checkpoints measured.\n")
