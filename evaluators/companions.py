"""Companion processes: they share one training with the process that starts them, do nothing else and write nothing.

Lightning's own way to several processes is to start the whole command once more in each. A command that prepares data,
trains, measures and writes a report is to do that once, so it starts companions for the training alone.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from searchspaces.errors import ConfigError, FacenasError
from searchspaces.processes import child_environment

READY = "ready"
GRACE_S = 3.0  # from the end of a companion's connection to its own end


def check_devices(devices: int, accelerator: str, *batch_sizes: int | None) -> None:
    """Refuse a number of devices that there are not, or that no batch can be shared by.

    Raises:
        ConfigError: naming what does not fit.
    """
    if devices < 1:
        raise ConfigError(f"Option 'devices' is {devices}; it must be at least 1.")
    if devices == 1:
        return
    import torch

    gpus = torch.cuda.device_count() if accelerator != "cpu" else 0
    if accelerator == "gpu" or gpus:
        if devices > gpus:
            raise ConfigError(
                f"devices is {devices}, but torch finds {gpus} GPUs here. Give fewer, or --accelerator cpu."
            )
    elif devices > (os.cpu_count() or 1):
        raise ConfigError(f"devices is {devices}, but there are {os.cpu_count()} CPU cores: one a process is needed.")
    for size in batch_sizes:
        if size and size % devices:
            raise ConfigError(f"A batch of {size} pictures has no equal shares for {devices} devices.")


@contextmanager
def companions(devices: int, prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> Iterator[None]:
    """While the block trains with ``devices`` of Lightning's Trainer, companions do the same.

    Args:
        devices: processes in all; with 1, or in a companion, nothing is started.
        prepare: a function of a module, called in each companion; it returns what to call for the training.
        arguments: its arguments, sent to the companions.

    Raises:
        FacenasError: if a companion fails, with the end of what it said.
    """
    if devices == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    import torch
    import torch.distributed as dist

    threads = torch.get_num_threads()
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(devices), "NODE_RANK": "0"}
    before = {name: os.environ.get(name) for name in (*place, "LOCAL_RANK")}
    started: list[tuple[subprocess.Popen[bytes], Any]] = []
    try:
        torch.set_num_threads(max(1, threads // devices))
        for rank in range(1, devices):
            own = {**place, "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": str(torch.get_num_threads())}
            started.append(_start(child_environment(**own), (prepare, arguments)))
        for process, said in started:
            assert process.stdout is not None
            if not any(line.strip() == READY.encode() for line in process.stdout):
                process.wait()
                raise FacenasError(_failure(process, said))
        os.environ.update(place, LOCAL_RANK="0")  # for Lightning: the processes are there already
        try:
            yield
        except RuntimeError as error:  # what gloo and NCCL raise when another process is gone
            for process, said in started:
                if _failed(process):
                    raise FacenasError(_failure(process, said)) from error
            raise
    finally:
        for process, said in started:
            process.kill()  # nothing is lost: it writes nothing
            process.wait()
            said.close()
        if dist.is_initialized():
            dist.destroy_process_group()  # the next training has companions of its own
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        torch.set_num_threads(threads)


def _start(environment: dict[str, str], task: tuple[Any, ...]) -> tuple[subprocess.Popen[bytes], Any]:
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process; a pipe would have to be read
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluators.companions"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env=environment,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(pickle.dumps(task))
        process.stdin.close()
    except BrokenPipeError:  # it has ended already, and says why
        pass
    return process, said


def _failed(process: subprocess.Popen[bytes]) -> bool:
    """Whether a companion has failed, or does so within moments."""
    try:
        return process.wait(GRACE_S) != 0
    except subprocess.TimeoutExpired:
        return False


def _failure(process: subprocess.Popen[bytes], said: Any) -> str:
    said.seek(0)
    lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    reason = f"signal {-process.returncode}" if process.returncode < 0 else lines[-1][-500:] if lines else "no message"
    return f"A process that shares the training has failed: {reason}"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> int:
    """A companion: prepares what it is told on standard input, says so, and trains."""
    from searchspaces.console import quiet_libraries

    try:
        with quiet_libraries():
            prepare, arguments = pickle.load(sys.stdin.buffer)  # from the process that started this one, no file
            train = prepare(*arguments)
            print(READY, flush=True)
            sys.stdout = sys.stderr  # nobody reads on
            train()
    except FacenasError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
