"""Part 2 of gpu.py: the kernels that one training step of a family spends its time in."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from recipes.benchmarks.gpu_report import Figure
from recipes.benchmarks.gpu_rows import Case
from recipes.benchmarks.gpu_setting import Setting
from recipes.benchmarks.gpu_training import (
    Trainee,
    language_trainee,
    translation_batches,
    translation_model,
    translation_trainee,
)
from recipes.benchmarks.speed import OURS

KERNELS = 20


def step(setting: Setting, case: Case | None) -> Iterator[Figure]:
    """One update, compiled: its kernels together, and those that take most time. None: of transformer-base."""
    if case is None:
        model, batches = translation_model(setting), translation_batches(setting)[:1]
        trainee, note = translation_trainee(OURS, model, batches, setting, True), "25,000 target tokens, compiled"
    else:
        trainee, note = language_trainee(case, setting)[0], str(case)
    trainee = Trainee(trainee.module, trainee.loss, trainee.optimizer, trainee.batches[:1])
    work = partial(trainee.steps, setting, 0)
    seconds = setting.seconds(work, rounds=3)
    updates = setting.size(4, 1)
    on_gpu = setting.device.type == "cuda"
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        work()
        setting.wait()
    times: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        if event.device_type == kind and not event.is_user_annotation:  # which would count its kernels again
            spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            times[event.key] += spent / 1000 / updates
    longest = sorted(times.items(), key=lambda one: -one[1])[:KERNELS]
    yield Figure("an update", 1000 * seconds / updates, "ms", note=note)
    yield Figure("kernels of an update", sum(times.values()), "ms", note=f"{len(times)} different ones", table=longest)
