"""Steps of training in PyTorch with transformers, as people write them: training.py BATCHES.json.

The batches of benches/training.rs, each padded to its longest; the same layers, heads, dropout, clipping and AdamW. Prints a name, the
seconds of the measured steps with those batches and with the same examples in batches of like length, and operations a second of one product of the feed-forward block, with tabs between.
"""
import json
import pathlib
import sys
import time

import torch
import transformers

told = json.loads(pathlib.Path(sys.argv[1]).read_text())
torch.set_num_threads(told["threads"])
QUERIES = 2


class Network(torch.nn.Module):
    """An encoder and, for each task, attention pooling by its own queries and a classifier."""

    def __init__(self):
        super().__init__()
        width, tasks = told["width"], len(told["grades"])
        config = transformers.BertConfig(
            vocab_size=told["vocabulary"],
            hidden_size=width,
            num_hidden_layers=told["layers"],
            num_attention_heads=told["heads"],
            intermediate_size=told["inner"],
            hidden_dropout_prob=told["dropout"],
            attention_probs_dropout_prob=0.0,
        )
        self.encoder = transformers.BertModel(config, add_pooling_layer=False)
        self.queries = torch.nn.Linear(width, tasks * QUERIES, bias=False)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(QUERIES * width, grades) for grades in told["grades"])
        self.dropout = torch.nn.Dropout(told["dropout"])

    def forward(self, ids, mask):
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        scores = self.queries(hidden).masked_fill(mask[:, :, None] == 0, float("-inf"))
        pooled = torch.einsum("btq,btw->bqw", scores.softmax(1), hidden)
        pooled = pooled.view(len(ids), len(self.heads), -1)
        return [head(self.dropout(pooled[:, task])) for task, head in enumerate(self.heads)]


def batch(rows):
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.tensor([row["ids"] + [0] * (longest - len(row["ids"])) for row in rows])
    mask = torch.tensor([[1] * len(row["ids"]) + [0] * (longest - len(row["ids"])) for row in rows])
    return ids, mask, torch.tensor([row["grades"] for row in rows])


def steps(batches):
    """Seconds of the measured steps."""
    network = Network().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.01)
    for step, rows in enumerate(batches):
        if step == told["warm"]:
            started = time.perf_counter()
        ids, mask, grades = batch(rows)
        logits = network(ids, mask)
        loss = sum(torch.nn.functional.cross_entropy(task, grades[:, at], label_smoothing=0.02) for at, task in enumerate(logits))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return time.perf_counter() - started


padded = steps(told["batches"])
warm, measured = told["batches"][: told["warm"]], told["batches"][told["warm"] :]
size = len(measured[0])
rows = sorted((row for rows in measured for row in rows), key=lambda row: len(row["ids"]))
bucketed = steps(warm + [rows[at : at + size] for at in range(0, len(rows), size)])

a, b = torch.randn(1024, 384), torch.randn(384, 1536)
least = float("inf")
for _ in range(30):
    started = time.perf_counter()
    a @ b
    least = min(least, time.perf_counter() - started)
name = f"PyTorch {torch.__version__.split('+')[0]} with transformers {transformers.__version__}"
print(name, padded, bucketed, 2 * 1024 * 384 * 1536 / least, sep="\t")
