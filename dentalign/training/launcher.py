"""A stage in several processes of this machine, by torch's own launcher (what `torchrun` calls)."""

import logging
import os
import signal
import sys
import uuid

from dentalign.errors import DentalignError
from dentalign.running import command
from dentalign.running.device import choose_device
from dentalign.training.data_parallel import check_gpus


def launch(processes: int, device: str) -> bool:
    """Run this script again in so many processes and wait for their end, unless it is one of them.

    returns : False where this process is to do the work itself: it is one of them, or is to be alone
    raises  : KeyboardInterrupt; SystemExit with the exit code of a process that failed, which has said why;
              DentalignError where one was killed
    """
    if processes == 1 or "WORLD_SIZE" in os.environ:
        return False
    if choose_device(device).type == "cuda":
        check_gpus(processes)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # the launcher's own: a page for each failure
    os.environ[command.PART_VARIABLE] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*sys.argv)
    except SignalException as received:
        if received.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + received.sigval)
    except ChildFailedError as failed:
        raise _why({rank: failure.exitcode for rank, failure in failed.failures.items()}) from None
    finally:
        logging.disable(logging.NOTSET)
        del os.environ[command.PART_VARIABLE]
    return True


def _why(exit_codes: dict[int, int]) -> BaseException:
    """What the end of several processes means for all of them."""
    for rank, code in sorted(exit_codes.items()):
        if code < 0 and code != -signal.SIGTERM:  # by SIGTERM the launcher ends the others
            name = signal.Signals(-code).name
            return DentalignError(
                f"training process {rank} was ended by {name}; "
                "the same command goes on from the last checkpoint"
            )
    return SystemExit(max([1, *exit_codes.values()]))
