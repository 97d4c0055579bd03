"""GPUs of a machine, by the device files of NVIDIA's driver."""

from pathlib import Path

from jobs.system.nvidia import count_gpus, machine_has_gpu


def test_gpus_are_the_numbered_device_files(tmp_path: Path) -> None:
    for name in ("nvidia-uvm", "nvidiactl", "nvidia-modeset", "null"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 0
    for name in ("nvidia0", "nvidia3", "nvidia10"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 3
    assert count_gpus(tmp_path / "none") == 0
    assert machine_has_gpu() is (count_gpus() > 0)
