"""What benches/inference.rs compares with: Python as people write it. Prints a name, a tab and seconds a line.

inference.py INPUTS.json PACKAGE THREADS: the texts of motion segments, a model package (its tokenizer and its graph), threads.

Segments are given, so that the others need not find them. PyTorch's networks have random weights, which take the same time. Ways that would
take minutes are measured on every eighth batch, and multiplied.
"""
import json
import pathlib
import sys
import time

import onnxruntime
import torch
import transformers
from tokenizers import Tokenizer

BATCH, TASKS = 32, 9
inputs = json.loads(pathlib.Path(sys.argv[1]).read_text())
package, threads = pathlib.Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
tokenizer.no_truncation()
tokenizer.enable_padding()
start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
vocabulary = tokenizer.get_vocab_size()


def batches(every=1):
    """Texts in batches as they come, tokenised and padded to the longest."""
    for at in range(0, len(inputs), BATCH * every):
        rows = tokenizer.encode_batch([f"[CLS] {text} [SEP]" for text in inputs[at : at + BATCH]], add_special_tokens=False)
        ids = torch.tensor([row.ids[:256] for row in rows])
        yield ids, torch.tensor([row.attention_mask[:256] for row in rows])


def timed(name, answer, every=1, times=1, runs=3):
    """The least seconds of some runs over all batches."""
    best = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        for ids, mask in batches(every):
            answer(ids, mask)
        best = min(best, time.perf_counter() - started)
    count = -(-len(inputs) // BATCH)
    measured = -(-len(inputs) // (BATCH * every))
    print(f"{name}\t{best * times * count / measured}", flush=True)


def onnx(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(package / file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name.startswith("logits_")]
    return lambda ids, mask: session.run(names, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})


class Classifier(torch.nn.Module):
    """An encoder with mean pooling and a head a task."""

    def __init__(self, config, tasks):
        super().__init__()
        self.encoder = transformers.BertModel(config, add_pooling_layer=False)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(config.hidden_size, 4) for _ in range(tasks))

    def forward(self, ids, mask):
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        share = mask / mask.sum(1, keepdim=True)
        pooled = torch.einsum("btw,bt->bw", hidden, share)
        return [head(pooled) for head in self.heads]


def torch_model(layers, width, heads, tasks):
    config = transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width
    )
    model = Classifier(config, tasks).eval()

    def answer(ids, mask):
        with torch.inference_mode():
            return model(ids, mask)

    return answer


timed(f"Python onnxruntime {onnxruntime.__version__} and tokenizers, the same graph in float32, batches of {BATCH} padded", onnx("model.onnx"))
pytorch = f"transformers {transformers.__version__} on PyTorch {torch.__version__.split('+')[0]}"
timed(f"{pytorch}, one multi-task model of six layers x 384", torch_model(6, 384, 12, TASKS), every=2)
timed(f"{pytorch}, a model of six layers x 384 for each of {TASKS} tasks", torch_model(6, 384, 12, 1), every=8, times=TASKS)
timed(f"{pytorch}, BERT-base for each of {TASKS} tasks", torch_model(12, 768, 12, 1), every=8, times=TASKS, runs=2)
