import io
import random

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ranet.training import RandomState


def draws() -> list[float]:
    normal = np.random.normal()  # half of a pair, of which NumPy keeps the other half
    return [torch.rand(()).item(), normal, np.random.rand(), random.random(), random.gauss(0, 1)]


def test_generators_go_on_where_the_checkpoint_left_them() -> None:
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    draws()
    file = io.BytesIO()
    torch.save(RandomState().state_dict(), file)
    expected = [draws(), draws()]

    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(2)
    file.seek(0)
    restored = RandomState()
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert draws() != pytest.approx(expected[0]), "nothing is put back before the training starts"
    trainer, module = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu"), pl.LightningModule()
    restored.on_train_start(trainer, module)
    assert [draws(), draws()] == expected

    restored.on_train_start(trainer, module)  # a second training of the same trainer goes its own way
    assert draws() not in expected
