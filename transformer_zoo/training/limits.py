"""When training stops."""

from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Progress
from transformer_zoo.training.config import RunConfig


def limit_reached(done: Progress, config: RunConfig) -> str:
    """The name of the limit that a run has reached, or an empty string. All processes must ask together."""
    limits, patience = config.training, config.validation.patience
    if done.step >= limits.max_updates:
        return "max_updates"
    if limits.max_epochs is not None and done.epoch >= limits.max_epochs:
        return "max_epochs"
    if patience and done.bad_validations >= patience:
        return "patience"
    # Clocks differ between processes, which must all stop at the same update.
    if limits.max_minutes is not None and distributed.any_of(done.seconds >= 60 * limits.max_minutes):
        return "max_minutes"
    return ""
