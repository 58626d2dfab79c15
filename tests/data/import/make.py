"""Checkpoints as other projects write them, with the scores of those projects' own code.

    pip install torch==2.11.0 torchrec==1.5.0 fbgemm-gpu-cpu==1.6.0 safetensors numpy scikit-learn tensorboard
    python tests/data/import/make.py DLRM MPREC tests/data/import

DLRM is a checkout of facebookresearch/dlrm (090956e), MPREC the folder `dlrm_mprec` of a checkout of
samhsia/MP-Rec-AE. Every checkpoint is written by what its project trains with:

    dlrm-*, qr-*     `dlrm_s_pytorch.py` of DLRM, run for six steps on its own random data with --save-model
    mprec-*          `dlrm_s_pytorch.py` of MPREC, likewise
    torchrec-*       torchrec's DLRM, DLRM_DCN and DLRMTrain, after one step of AdamW

Then the model is made anew from the checkpoint by the same code, and scores ids of our own. A case is <name>.pt or
.safetensors, <name>.toml (the architecture file of `mprec import`) and <name>.json (inputs, expected scores). Seeds
are fixed; the scripts' times and PyTorch's serialization ids are all that differs between two runs.
"""

import atexit
import contextlib
import io
import json
import os
import pathlib
import runpy
import shutil
import sys
import tempfile
import types

import torch

# Where the scripts leave their logs, until the last of their threads has ended.
SCRATCH = tempfile.mkdtemp()
atexit.register(shutil.rmtree, SCRATCH)

SAMPLES = 17
DENSE = 3


def bags(generator, cardinalities, most):
    """Ids and lengths of every feature; with `most` 1 exactly one id per sample."""
    out = []
    for cardinality in cardinalities:
        if most == 1:
            lengths = torch.ones(SAMPLES, dtype=torch.int64)
        else:
            lengths = torch.randint(0, most + 1, (SAMPLES,), generator=generator)
        ids = torch.randint(0, cardinality, (int(lengths.sum()),), generator=generator)
        out.append((ids, lengths))
    return out


def write(folder, name, made_by, architecture, dense, inputs, scores):
    (folder / f"{name}.toml").write_text(architecture)
    case = {
        "made_by": made_by,
        "dense": [round(float(x), 7) for x in dense.flatten()],
        "ids": [ids.tolist() for ids, _ in inputs],
        "lengths": [lengths.tolist() for _, lengths in inputs],
        "scores": [float(x) for x in scores.flatten()],
    }
    (folder / f"{name}.json").write_text(json.dumps(case) + "\n")


def dense_values(generator):
    return torch.round(torch.rand(SAMPLES, DENSE, generator=generator) * 3, decimals=4)


def stand_in_for_primesieve():
    """The one function that MP-Rec's artifact takes from `primesieve`, which has no wheels."""
    def nth_prime(count, above):
        assert count == 1
        number = above + 1
        while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
            number += 1
        return number

    return types.SimpleNamespace(nth_prime=nth_prime)


class Script:
    """`dlrm_s_pytorch.py` of either project, run as its users do, and its model class."""

    def __init__(self, folder):
        self.folder = folder

    @contextlib.contextmanager
    def at_home(self, arguments):
        before, argv, path = os.getcwd(), sys.argv, list(sys.path)
        os.chdir(SCRATCH)
        sys.argv = ["dlrm_s_pytorch.py", *arguments]
        sys.path.insert(0, str(self.folder))
        sys.modules["primesieve"] = stand_in_for_primesieve()
        try:
            yield
        finally:
            os.chdir(before)
            sys.argv, sys.path[:] = argv, path
            for module in [name for name, found in sys.modules.items()
                           if str(self.folder) in str(getattr(found, "__file__", ""))]:
                del sys.modules[module]

    def train(self, checkpoint, arguments):
        """Runs the script; returns its globals, in which the trained model still is."""
        with self.at_home([*arguments, f"--save-model={checkpoint.resolve()}"]):
            with contextlib.redirect_stdout(io.StringIO()):
                script = runpy.run_path(str(self.folder / "dlrm_s_pytorch.py"), run_name="script")
                script["run"]()
        assert checkpoint.exists(), "the script saved nothing: its test accuracy was zero"
        return script


def dlrm_case(folder, project, name, script, architecture, cardinalities, most, arguments, top, seed,
              dhe=None):
    generator = torch.Generator().manual_seed(seed)
    checkpoint = folder / f"{name}.pt"
    checkpoint.unlink(missing_ok=True)
    common = ["--mini-batch-size=4", "--data-size=24", "--arch-sparse-feature-size=4", "--arch-mlp-bot=3-6-4",
              "--arch-embedding-size=" + "-".join(map(str, cardinalities)), f"--arch-mlp-top={top}",
              f"--num-indices-per-lookup={most}", "--test-freq=6", "--test-mini-batch-size=4",
              "--loss-function=bce", "--round-targets=True", "--learning-rate=0.1",
              f"--numpy-rand-seed={seed}"]
    made = {}
    module = script.train(checkpoint, common + arguments)
    # The class of the model, made anew from what was saved, with the arguments that the script gave it.
    saved = torch.load(checkpoint, weights_only=False)
    net = module["DLRM_Net"]
    original = net.__init__

    def remember(self, *given, **named):
        made["arguments"] = (given, named)
        original(self, *given, **named)

    net.__init__ = remember
    with script.at_home(common + arguments), contextlib.redirect_stdout(io.StringIO()):
        # Once more, to see the arguments: training is six steps.
        module["run"]()
    net.__init__ = original
    given, named = made["arguments"]
    with contextlib.redirect_stdout(io.StringIO()):
        model = net(*given, **named)
    model.load_state_dict(saved["state_dict"])
    model.eval()
    dense, inputs = dense_values(generator), bags(generator, cardinalities, most)
    offsets = [torch.cumsum(lengths, 0) - lengths for _, lengths in inputs]
    with torch.no_grad():
        scores = model(dense, offsets, [ids for ids, _ in inputs])
    write(folder, name, f"{project}, torch {torch.__version__.split('+')[0]}", architecture, dense, inputs, scores)


def features(cardinalities, extra=""):
    rows = "".join(f'    {{ name = "s{at}", cardinality = {c} }},\n' for at, c in enumerate(cardinalities))
    return f"dense = {DENSE}\nsparse = [\n{rows}]\n{extra}"


def torchrec_case(folder, name, cardinalities, most, seed, dcn, safetensors):
    import torchrec
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
    from torchrec.models.dlrm import DLRM, DLRM_DCN, DLRMTrain

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    keys = [f"cat_{at}" for at in range(len(cardinalities))]
    tables = EmbeddingBagCollection(device=torch.device("cpu"), tables=[
        EmbeddingBagConfig(name=f"t_{key}", embedding_dim=4, num_embeddings=rows, feature_names=[key])
        for key, rows in zip(keys, cardinalities)])
    common = {"embedding_bag_collection": tables, "dense_in_features": DENSE, "dense_arch_layer_sizes": [6, 4],
              "over_arch_layer_sizes": [5, 4, 1], "dense_device": torch.device("cpu")}
    model = DLRM_DCN(**common, dcn_num_layers=3, dcn_low_rank_dim=5) if dcn else DLRM(**common)
    with torch.no_grad():
        for table in tables.embedding_bags.values():
            table.weight.copy_(torch.randn(table.weight.shape, generator=generator) * 0.6)
    train = DLRMTrain(model)
    optimizer = torch.optim.AdamW(train.parameters(), lr=0.05)

    def batch(inputs):
        return KeyedJaggedTensor(keys=keys, values=torch.cat([ids for ids, _ in inputs]),
                                 lengths=torch.cat([lengths for _, lengths in inputs]))

    inputs, dense = bags(generator, cardinalities, most), dense_values(generator)
    labels = torch.randint(0, 2, (SAMPLES,), generator=generator)
    loss, _ = train(types.SimpleNamespace(dense_features=dense, sparse_features=batch(inputs), labels=labels))
    loss.backward()
    optimizer.step()
    if safetensors:
        from safetensors.torch import save_file
        save_file(train.state_dict(), folder / f"{name}.safetensors")
    else:
        torch.save({"model": train.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{name}.pt")
    inputs, dense = bags(generator, cardinalities, most), dense_values(generator)
    with torch.no_grad():
        scores = torch.sigmoid(model(dense, batch(inputs)))
    extra = 'interaction = "cross"\n' if dcn else ""
    rows = "".join(f'    {{ name = "cat_{at}" }},\n' for at in range(len(cardinalities)))
    made_by = f"torchrec {torchrec.__version__}, torch {torch.__version__.split('+')[0]}"
    write(folder, name, made_by, f"dense = {DENSE}\nsparse = [\n{rows}]\n{extra}", dense, inputs, scores)


def main():
    dlrm, mprec = (Script(pathlib.Path(folder).resolve()) for folder in sys.argv[1:3])
    folder = pathlib.Path(sys.argv[3])
    torch.set_num_threads(1)
    source = "facebookresearch/dlrm 090956e"
    small = [7, 40, 25]
    dlrm_case(folder, source, "dlrm-dot", dlrm, features(small), small, 3, [], "5-1", 11)
    dlrm_case(folder, source, "dlrm-itself", dlrm, features(small), small, 1,
              ["--arch-interaction-itself"], "5-4-1", 12)
    dlrm_case(folder, source, "dlrm-cat", dlrm, features(small), small, 3,
              ["--arch-interaction-op=cat"], "1", 13)
    dlrm_case(folder, source, "qr-mult", dlrm, features([7, 240, 225], 'interaction = "dot"\n'), [7, 240, 225], 3,
              ["--qr-flag", "--qr-collisions=4"], "5-1", 14)
    artifact = "samhsia/MP-Rec-AE"
    dhe = ["--dhe-k=8", "--dhe-mlp-dims=8-6-4"]
    large = [7, 40, 2_500_000]
    mprec_cat = ["--arch-interaction-op=cat", "--optimizer=sgd"]
    dlrm_case(folder, artifact, "mprec-table", mprec, features(small), small, 3, mprec_cat, "5-1", 21)
    dlrm_case(folder, artifact, "mprec-dhe", mprec, features(large), large, 1,
              [*mprec_cat, "--embedding-representation=dhe", *dhe], "5-1", 22)
    dlrm_case(folder, artifact, "mprec-dhe-mish", mprec,
              features(large, '[dhe]\ntransform = "gaussian"\nactivation = "mish"\n'), large, 3,
              ["--arch-interaction-op=dot", "--embedding-representation=dhe", *dhe, "--dhe-transform=gaussian",
               "--dhe-activation=mish", "--dhe-batch-norm"], "5-1", 23)
    dlrm_case(folder, artifact, "mprec-hybrid", mprec, features(small), small, 3,
              ["--arch-interaction-op=dot", "--embedding-representation=hybrid", *dhe], "5-1", 24)
    dlrm_case(folder, artifact, "mprec-select", mprec, features([7, 2_500_000, 40], '[dhe]\nfeatures = ["s1"]\n'),
              [7, 2_500_000, 40], 3,
              [*mprec_cat, "--embedding-representation=select", "--select-sparse-feature-ids=1",
               "--dhe-k=8", "--dhe-mlp-dims=8-5"], "5-1", 25)
    torchrec_case(folder, "torchrec-dot", small, 3, 31, dcn=False, safetensors=True)
    torchrec_case(folder, "torchrec-dcn", small, 12, 32, dcn=True, safetensors=False)


main()
