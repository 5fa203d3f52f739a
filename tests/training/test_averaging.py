"""The moving average of the weights, by hand."""

import torch
from torch import nn

from transformer_zoo.training.weights import MovingAverage


def test_the_average_follows_the_weights_and_swaps_in_and_out() -> None:
    model = nn.Linear(1, 1, bias=False)
    weight = model.weight
    with torch.no_grad():
        weight.fill_(1.0)
    average = MovingAverage(list(model.parameters()), decay=0.25)
    expected = 1.0
    for value, decay in ((2.0, 2 / 11), (3.0, 0.25), (4.0, 0.25)):  # (1 + 2) / (10 + 2) is 0.25
        with torch.no_grad():
            weight.fill_(value)
        average.update()
        expected = decay * expected + (1 - decay) * value
    with average.swapped():
        torch.testing.assert_close(weight.item(), expected, rtol=1e-6, atol=0)
    assert weight.item() == 4.0
    other = MovingAverage(list(model.parameters()), decay=0.25)
    other.load(average.state())
    with other.swapped():
        torch.testing.assert_close(weight.item(), expected, rtol=1e-6, atol=0)


def test_without_decay_nothing_is_kept() -> None:
    model = nn.Linear(2, 3)
    average = MovingAverage(list(model.parameters()), decay=0.0)
    before = model.weight.detach().clone()
    average.update()
    with average.swapped():
        assert torch.equal(model.weight, before)
    assert average.state()["average"] == []
