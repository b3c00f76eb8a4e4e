"""Makes HDF5 files that lie about their sizes or go round in circles.    python make_hostile.py    # pip install h5py numpy"""

import os

import h5py
import numpy as np

os.makedirs("hostile", exist_ok=True)


def weights(name, kernel, **options):
    with h5py.File(f"hostile/{name}.h5", "w") as f:
        f.attrs["layer_names"] = [b"lstm"]
        f.attrs["keras_version"] = b"2.2.4"
        g = f.create_group("lstm")
        names = [b"lstm/kernel:0", b"lstm/recurrent_kernel:0", b"lstm/bias:0"]
        g.attrs["weight_names"] = names
        g.create_dataset("lstm/kernel:0", kernel, dtype="f4", **options)
        g.create_dataset("lstm/recurrent_kernel:0", data=np.ones((2, 8), "f4"))
        g.create_dataset("lstm/bias:0", data=np.ones(8, "f4"))
        return f


# Four tebibytes, of which not one byte is there.
weights("absurd", (1 << 37, 8), chunks=(1 << 10, 8))
# 8 MiB of zeros in chunks that take some bytes each.
f = weights("bomb", (1 << 18, 8), chunks=(1 << 16, 8), compression="gzip", compression_opts=9)
with h5py.File("hostile/bomb.h5", "a") as f:
    f["lstm/lstm/kernel:0"][...] = 0
# A group within itself.
weights("cycle", (3, 8))
with h5py.File("hostile/cycle.h5", "a") as f:
    f["lstm/again"] = f["lstm"]
    f["lstm/lstm/root"] = f["/"]
    f["lstm/soft"] = h5py.SoftLink("/lstm/soft")
    f["lstm/other"] = h5py.ExternalLink("/etc/passwd", "/")
# Packed, but honest.
rng = np.random.default_rng(0)
weights("packed", (3, 8), chunks=(3, 8), compression="gzip", shuffle=True)
with h5py.File("hostile/packed.h5", "a") as f:
    f["lstm/lstm/kernel:0"][...] = np.arange(24).reshape(3, 8)
