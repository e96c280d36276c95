"""Evaluates an ecosystem of an OSV export independently of Plimsoll, by the ecosystem's own version tool.

Usage: evaluate.py OSV_DIR ECOSYSTEM SUFFIXES TOOL [ARGUMENT…]; SUFFIXES is a JSON list of what is appended to known
versions to get ones between them. The tool reads `A<TAB>B` lines and prints -1, 0, 1 or invalid. Prints one JSON line
[package, version, record ids, other ids, CVE ids], or [package, version, null, [], []] for an invalid version.
"""
import glob, json, subprocess, sys, zipfile

# Versions asked about for one package; about this many, up to twice.
MOST_VERSIONS = 16

directory, ecosystem, suffixes, tool = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4:]

records = {}
for path in sorted(glob.glob(directory + "/*/all.zip")):
    archive = zipfile.ZipFile(path)
    for name in archive.namelist():
        record = json.loads(archive.read(name))
        known = records.get(record["id"])
        if known is None or known.get("modified", "") < record.get("modified", ""):
            records[record["id"]] = record

packages = {}
for record in records.values():
    if "withdrawn" in record:
        continue
    for affected in record.get("affected") or []:
        package = affected["package"]
        if package["ecosystem"].split(":")[0] != ecosystem:
            continue
        name = package["name"].lower() if ecosystem == "Packagist" else package["name"]
        packages.setdefault(name, []).append((record, affected))


def boundaries(affected):
    """(kind, version) lists of the ranges that have an order."""
    for one in affected.get("ranges") or []:
        if one["type"] in ("SEMVER", "ECOSYSTEM"):
            yield [item for event in one["events"] for item in event.items()]


def asked_versions(entries):
    texts = {"0.0.1", "9999.0.0"}
    for _, affected in entries:
        listed = affected.get("versions") or []
        texts.update(listed[:2] + listed[-3:])
        for events in boundaries(affected):
            texts.update(text for kind, text in events if not (kind == "introduced" and text == "0"))
    texts = sorted(texts | {text + suffix for text in texts for suffix in suffixes})
    # Popular packages have hundreds of versions: some of them, spread evenly.
    return texts[:: max(1, len(texts) // MOST_VERSIONS)]


wanted = set()
for name, entries in packages.items():
    versions = asked_versions(entries)
    wanted.update((text, text) for text in versions)
    for _, affected in entries:
        wanted.update((text, listed) for text in versions for listed in affected.get("versions") or [])
        for events in boundaries(affected):
            wanted.update((text, boundary) for text in versions for _, boundary in events)
            wanted.update((a, b) for kind, a in events if kind == "introduced" for _, b in events)
wanted = sorted(wanted)
lines = "".join(f"{a}\t{b}\n" for a, b in wanted)
answers = subprocess.run(tool, input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[:-1]
assert len(answers) == len(wanted), f"{len(answers)} answers to {len(wanted)} questions"
order = {pair: None if answer == "invalid" else int(answer) for pair, answer in zip(wanted, answers)}


def compare(a, b, kind):
    """b is a boundary of that kind."""
    return 1 if (kind, b) == ("introduced", "0") else order[a, b]


def in_range(version, events):
    """Affected: since some introduction there was no fix, nor a last affected version."""
    if any(compare(version, text, kind) is None for kind, text in events):
        return False
    limits = [text for kind, text in events if kind == "limit"]
    if limits and not any(text == "*" or order[version, text] < 0 for text in limits):
        return False
    for position, (kind, start) in enumerate(events):
        if kind != "introduced" or compare(version, start, kind) < 0:
            continue
        # Of two events at one version the later in the list counts.
        since = lambda at, text: start == "0" or order[start, text] < (1 if at > position else 0)
        ends = enumerate(events)
        ended = any(
            since(at, text) and (k == "fixed" and order[version, text] >= 0 or k == "last_affected" and order[version, text] > 0)
            for at, (k, text) in ends
        )
        if not ended:
            return True
    return False


for name, entries in sorted(packages.items()):
    for text in asked_versions(entries):
        if order[text, text] is None:
            print(json.dumps([name, text, None, [], []]))
            continue
        ids, others, cves = set(), set(), set()
        for record, affected in entries:
            listed = any(listed == text or order[text, listed] == 0 for listed in affected.get("versions") or [])
            if listed or any(in_range(text, events) for events in boundaries(affected)):
                ids.add(record["id"])
                others.update(record.get("aliases") or [])
                cves.update(a for a in [record["id"]] + (record.get("aliases") or []) if a.startswith("CVE-"))
        print(json.dumps([name, text, sorted(ids), sorted(others), sorted(cves)]))
