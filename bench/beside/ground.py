"""What a measurement with clusters stands on: root, first place on the machine, a directory, and nothing left of an earlier one."""
import os
import shutil
import signal
import sys
import tempfile

from beside.failover import ClusterError, Failed, clusters


def on_ground(name, measure):
    """What measure(directory) returns; None, and on stderr why, if it failed."""
    if os.geteuid() != 0:
        print(f"bench: {name} needs root: it makes namespaces", file=sys.stderr)
        return None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.nice(-15)
    clusters.sweep(f"dsb-{name}")
    directory = tempfile.mkdtemp(prefix=f"dsb-{name}-{os.getpid()}-")
    try:
        os.chmod(directory, 0o755)
        return measure(directory)
    except (Failed, ClusterError) as error:
        print(f"bench: {name}: {error}", file=sys.stderr)
        return None
    finally:
        shutil.rmtree(directory, ignore_errors=True)
