"""Who the workers of `distribute=multi_worker` are: what TF_CONFIG in the environment says. No TensorFlow."""

import json
import os
from typing import Any


def refuse_bad_tf_config() -> None:
    """Makes sure that TF_CONFIG names the workers and which of them this process is.

    Raises:
        ValueError: it does not.
    """
    try:
        cluster, task = _tf_config()
        chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
        addresses = {"chief": chiefs, "worker": workers}[task["type"]]
        fine = isinstance(addresses, list) and all(isinstance(address, str) for address in [*chiefs, *workers])
        fine = fine and type(task["index"]) is int and 0 <= task["index"] < len(addresses)
    except (ValueError, TypeError, KeyError, AttributeError):
        fine = False
    if not fine:
        example = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
        raise ValueError(
            f"needs TF_CONFIG in each worker's environment, such as {example}, "
            f"got {os.environ.get('TF_CONFIG', 'none')[:80]!r}"
        )


def is_chief() -> bool:
    """Whether this process is the one of TF_CONFIG's workers that writes: the chief, or else the first one."""
    cluster, task = _tf_config()
    return task["type"] == "chief" or ("chief" not in cluster and task["index"] == 0)


def _tf_config() -> tuple[dict[str, Any], dict[str, Any]]:
    config = json.loads(os.environ.get("TF_CONFIG", ""))
    return config["cluster"], config["task"]
