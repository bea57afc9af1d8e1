#!/usr/bin/env python3
"""What each ingredient of the model gives, and what a site gains by annotating a few reports. Prints tables, and keeps what was trained in out/experiments.

    experiments.py ablation TEST.jsonl...          small networks (2 layers, one epoch), each trained without something or in another way
    experiments.py curve SITE.jsonl                the shipped model trained on with 0, 20, 40, 80 of a site's annotated reports, scored on the rest

Options: --train COMMAND (foramen-train), --label COMMAND (foramen), --rules RULES.py (a rule labeller to put beside: IN.jsonl OUT.jsonl),
--weak UNLABELLED.jsonl (adds a network that also learns from what the shipped model says of these reports), --start PACKAGE (that the curve goes on from). A network that is there is not trained again. Wants Python 3.11.
"""
import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tomllib

ROOT = pathlib.Path("out/experiments")
SCHEMA = tomllib.loads(pathlib.Path("schemas/spine.toml").read_text(encoding="utf-8"))
GRADES = {task["name"]: task["grades"] for task in SCHEMA["task"]}
TASKS = list(GRADES)
SMALL = ["--layers", "2"]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}")
    return done.stdout


def lines(path):
    return [json.loads(line) for line in open(path, encoding="utf-8") if line.strip()]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def trained(args, name, *options, config=None):
    """The package of a network, trained where it is not there yet."""
    package, folder = ROOT / "packages" / name, ROOT / "runs" / name
    if not (package / "package.toml").is_file():
        print(f"training {name}", file=sys.stderr)
        given = []
        if config:
            (ROOT / "configs").mkdir(parents=True, exist_ok=True)
            path = ROOT / "configs" / f"{name}.toml"
            path.write_text(config)
            given = ["--config", path]
        run(args.train, "fit", "--output", folder, *given, *options)
        run(args.train, "export", folder, "--output", package, "--name", name)
    return package


def scores(args, package, tests):
    """macro-F1, row accuracy and macro-F1 by task on each test file."""
    out = {}
    for line in run(args.train, "evaluate", *tests, "--model", package, "--json").splitlines():
        row = json.loads(line)
        tasks = {task["task"]: task["macro_f1"] for task in row["scores"]["tasks"]}
        out[row["file"]] = (row["scores"]["macro_f1"], row["scores"]["row_accuracy"], tasks)
    return out


def of_rows(test, rows):
    """The same for finding rows, by the definitions of docs/training.md."""
    tasks = {}
    gold = {(r["id"], level): grades for r in lines(test) for level, grades in r["findings"].items()}
    said = {(r["report_id"], r["level"]): r for r in rows}
    keys = sorted(gold.keys() | said.keys())
    read = lambda table, key, task: table.get(key, {}).get(task) or GRADES[task][0]
    for task in TASKS:
        pairs = [(read(gold, key, task), read(said, key, task)) for key in keys]
        support = [read(gold, key, task) for key in gold]
        f1 = [2 * sum(a == b == g for a, b in pairs) / max(1, sum(a == g for a, _ in pairs) + sum(b == g for _, b in pairs))
              for g in GRADES[task] if support.count(g) >= 5]
        tasks[task] = statistics.mean(f1) if len(f1) > 1 else None
    right = sum(key in gold and key in said and all(read(gold, key, t) == read(said, key, t) for t in TASKS) for key in keys)
    return statistics.mean(f for f in tasks.values() if f is not None), right / len(keys), tasks


def table(tests, rows):
    heads = [f"{pathlib.Path(test).stem} macro-F1 | row accuracy" for test in tests]
    print(f"| | {' | '.join(heads)} |\n| --- |{' --- |' * (2 * len(tests))}")
    for name, found in rows:
        cells = [f"{figure:.3f}" if figure is not None else "–" for test in tests for figure in found[test][:2]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def ablation(args):
    tests, rows = args.files, []
    if args.rules:
        found = {}
        for test in tests:
            out = ROOT / "rules.jsonl"
            out.parent.mkdir(parents=True, exist_ok=True)
            run(sys.executable, args.rules, test, out)
            found[test] = of_rows(test, lines(out))
        rows.append(("hand-written rules", found))
    rows.append(("words of the evidence, TF-IDF and logistic regression", words(args, tests)))
    few = ["--epochs", "1"]
    whole = trained(args, "whole", *SMALL, *few)
    rows.append(("frozen encoder, heads alone", scores(args, trained(args, "frozen", *SMALL, *few, "--rate", "0"), tests)))
    # As many steps: the written reports are a little more than half of an epoch.
    rows.append(("without synthetic reports", scores(args, trained(args, "written", *SMALL, "--epochs", "2", "--synthetic", "0"), tests)))
    rows.append(("without balanced grades", scores(args, trained(args, "plain", *SMALL, *few, config="balance = 0.0\n"), tests)))
    old = [r for r in lines("corpus/written.jsonl") if not r["id"].startswith("written-u")]
    write(ROOT / "old.jsonl", old)
    config = f'data = ["{ROOT / "old.jsonl"}"]\n'
    rows.append(("half of the written reports", scores(args, trained(args, "half", *SMALL, *few, config=config), tests)))
    if args.weak:
        write(ROOT / "weak.jsonl", weak(args))
        config = f'data = ["corpus/written.jsonl", "{ROOT / "weak.jsonl"}"]\n'
        rows.append(("with weak labels of unlabelled reports", scores(args, trained(args, "weak", *SMALL, *few, config=config), tests)))
    rows.append(("whole: 2 layers, 1 epoch", scores(args, whole, tests)))
    rows.append(("shipped: 6 layers", scores(args, pathlib.Path("models/spine"), tests)))
    table(tests, rows)
    print("\nOne shared network against a network a task: written reports alone, 2 layers, 1 epoch, the same steps.\n")
    short = [*SMALL, "--epochs", "1", "--synthetic", "0"]
    shared = scores(args, trained(args, "shared", *short), tests)
    specific = {task: scores(args, trained(args, f"only-{task}", *short, "--task", task), tests) for task in TASKS}
    print(f"| task | {' | '.join(f'{pathlib.Path(t).stem}: shared | task-specific' for t in tests)} |\n| --- |{' --- |' * (2 * len(tests))}")
    sums = {test: [[], []] for test in tests}
    for task in TASKS:
        cells = []
        for test in tests:
            pair = shared[test][2][task], specific[task][test][2][task]
            for list_, figure in zip(sums[test], pair):
                list_.extend([figure] if figure is not None else [])
            cells += [f"{figure:.3f}" if figure is not None else "–" for figure in pair]
        print(f"| {task} | {' | '.join(cells)} |")
    print(f"| mean | {' | '.join(f'{statistics.mean(figures):.3f}' for test in tests for figures in sums[test])} |")


def evidence(args, path):
    """Evidence of each motion segment, by (report, level)."""
    text = run(args.label, "label", path, "--input-format", "jsonl", "--output", "-")
    return {(row["report_id"], row["level"]): row["evidence"] for row in map(json.loads, text.splitlines())}


def words(args, tests):
    """A bag of words, as a first baseline would be: it sees the level's name and the evidence."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def examples(path):
        found = evidence(args, path)
        rows = [(key, grades) for r in lines(path) for level, grades in r["findings"].items() if (key := (r["id"], level)) in found]
        return [f"level {key[1]} . {found[key]}" for key, _ in rows], rows

    texts, rows = examples("corpus/written.jsonl")
    vectors = TfidfVectorizer(ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    learnt = vectors.fit_transform(texts)
    out = {}
    models = {task: LogisticRegression(C=20, max_iter=400).fit(learnt, [grades.get(task, "") for _, grades in rows]) for task in TASKS}
    for test in tests:
        seen, keys = examples(test)
        said = [{"report_id": key[0], "level": key[1]} for key, _ in keys]
        for task, model in models.items():
            for row, grade in zip(said, model.predict(vectors.transform(seen))):
                row[task] = grade
        out[test] = of_rows(test, said)
    return out


def weak(args):
    """Unlabelled reports with the grades of the shipped model, where every one of them is sure."""
    text = run(args.label, "label", args.weak, "--input-format", "jsonl", "--output", "-")
    reports = {report["id"]: {**report, "findings": {}} for report in lines(args.weak)}
    unsure = set()
    for row in map(json.loads, text.splitlines()):
        if min(row[f"{task}_score"] for task in TASKS) < 0.9:
            unsure.add(row["report_id"])
        reports[row["report_id"]]["findings"][row["level"]] = {t: row[t] for t in TASKS if row[t] != GRADES[t][0]}
    return [report for report in reports.values() if report["id"] not in unsure and report["findings"]]


def curve(args):
    reports = lines(args.files[0])
    random.Random(1).shuffle(reports)
    half = len(reports) // 2
    rows = {count: [] for count in (0, 20, 40, 80)}
    for way, (learn, test) in enumerate([(reports[:half], reports[half:]), (reports[half:], reports[:half])]):
        rest = ROOT / f"curve-{way}-test.jsonl"
        write(rest, test)
        for count in rows:
            package = pathlib.Path(args.start)
            if count:
                data = ROOT / f"curve-{way}-{count}.jsonl"
                write(data, learn[:count])
                package = trained(args, f"{package.name}-{way}-{count}", "--from", package, "--data", data)
            rows[count].append(scores(args, package, [rest])[str(rest)])
    print("| annotated reports of the site | macro-F1 | row accuracy |\n| --- | --- | --- |")
    for count, found in rows.items():
        print(f"| {count} | {statistics.mean(f[0] for f in found):.3f} | {statistics.mean(f[1] for f in found):.3f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ablation", "curve"])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--train", default="target/debug/foramen-train")
    parser.add_argument("--label", default="target/debug/foramen")
    parser.add_argument("--rules")
    parser.add_argument("--weak")
    parser.add_argument("--start", default="models/spine")
    args = parser.parse_args()
    {"ablation": ablation, "curve": curve}[args.what](args)


if __name__ == "__main__":
    main()
