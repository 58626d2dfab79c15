"""Writes `model.onnx` and `cases.json`: a small DLRM with random parameters, exported as PyTorch users export theirs.

    pip install torch==2.11 onnx
    python3 export.py

Inputs are `dense_x` [samples, 3], `offsets` [4, samples] and `indices` [4, ids]; the output is `pred` [samples, 1]. The cases hold
bags of any size, the same number of ids in every feature as stacking asks, and the scores of PyTorch itself.
"""
import json
import pathlib

import torch

ROWS, DIM, DENSE = [7, 50, 3, 20], 4, 3
HERE = pathlib.Path(__file__).parent


class Dlrm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = torch.nn.ModuleList(torch.nn.EmbeddingBag(rows, DIM, mode="sum") for rows in ROWS)
        self.bottom = torch.nn.Sequential(torch.nn.Linear(DENSE, 8), torch.nn.ReLU(), torch.nn.Linear(8, DIM), torch.nn.ReLU())
        pairs = len(ROWS) * (len(ROWS) + 1) // 2
        self.top = torch.nn.Sequential(torch.nn.Linear(DIM + pairs, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())

    def forward(self, dense, offsets, indices):
        bottom = self.bottom(dense)
        vectors = [bottom] + [table(indices[at], offsets[at]) for at, table in enumerate(self.tables)]
        stacked = torch.stack(vectors, dim=1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        left = [i for i in range(len(vectors)) for _ in range(i)]
        right = [j for i in range(len(vectors)) for j in range(i)]
        return self.top(torch.cat([bottom, products[:, left, right]], dim=1))


def bags(samples, ids):
    """Random offsets that cut `ids` ids into bags, some of them empty, and the ids."""
    cuts = torch.randint(0, ids + 1, (len(ROWS), samples - 1)).sort(dim=1).values
    offsets = torch.cat([torch.zeros(len(ROWS), 1, dtype=torch.int64), cuts], dim=1)
    return offsets, torch.stack([torch.randint(0, rows, (ids,)) for rows in ROWS])


def main():
    torch.manual_seed(5)
    model = Dlrm().eval()
    with torch.no_grad():
        # Scores that tell samples apart.
        for parameter in model.parameters():
            parameter.uniform_(-0.9, 0.9)
    one_hot = lambda samples: (torch.arange(samples).repeat(len(ROWS), 1), bags(samples, samples)[1])
    cases = []
    for samples, (offsets, indices) in [(1, one_hot(1)), (5, one_hot(5)), (4, bags(4, 9)), (33, one_hot(33))]:
        dense = torch.rand(samples, DENSE)
        with torch.no_grad():
            scores = model(dense, offsets, indices)
        case = {"dense": dense.flatten(), "offsets": offsets, "indices": indices, "scores": scores.flatten()}
        cases.append({name: values.tolist() for name, values in case.items()})
    (HERE / "cases.json").write_text(json.dumps(cases))
    names = ["dense_x", "offsets", "indices"]
    example = (torch.rand(5, DENSE), *one_hot(5))
    axes = {"dense_x": {0: "batch"}, "offsets": {1: "batch"}, "indices": {1: "ids"}, "pred": {0: "batch"}}
    torch.onnx.export(model, example, HERE / "model.onnx", input_names=names, output_names=["pred"], dynamic_axes=axes, opset_version=17,
                      dynamo=False)


if __name__ == "__main__":
    main()
