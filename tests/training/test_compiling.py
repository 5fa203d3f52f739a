"""Compiling where it can be done, and a line where it cannot."""

import importlib.util
import shutil

import pytest
import torch

from transformer_zoo.training.compiling import use_compile

GPU = torch.device("cuda")


def test_auto_does_without_what_is_missing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not use_compile("auto", GPU)
    assert "without torch.compile, which needs the package triton and a C compiler" in capsys.readouterr().out
    assert not use_compile("auto", GPU, say=False)
    assert use_compile("always", GPU)  # who asks for it gets it, or torch's own complaint
    assert not use_compile("never", GPU)
    assert capsys.readouterr().out == ""


def test_auto_compiles_where_everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: "cc" if name == "my-cc" else None)
    assert not use_compile("auto", GPU)
    monkeypatch.setenv("CC", "my-cc")
    assert use_compile("auto", GPU)
    assert not use_compile("auto", torch.device("cpu"))
