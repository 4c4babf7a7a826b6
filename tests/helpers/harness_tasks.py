"""Tasks of lm-eval in a folder, one of each kind, whose data is beside them: no network."""

import json

COMMON = {
    "dataset_path": "json",
    "test_split": "test",
    "num_fewshot": 0,
    "metadata": {"version": 1.0},
}

ROWS = [
    {"text": "import os", "next": "\n", "choices": [" path", "\nimport sys", " os"], "gold": 1},
    {"text": "def add(a, b):\n    return ", "next": "a + b", "choices": ["a", "x", "("], "gold": 0},
    {"text": "class Stack:\n", "next": "    pass", "choices": ["    def", "  x", "y"], "gold": 0},
    {"text": "for i in range(", "next": "10):", "choices": ["n):", "3)", "i"], "gold": 2},
    {"text": "x = [1, 2, 3]\nprint(", "next": "x)", "choices": ["x)", "y)", "1)"], "gold": 0},
]

MEAN = {"aggregation": "mean", "higher_is_better": True}

KINDS = {
    "tiny_likelihood": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{next}}",
        "target_delimiter": "",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", **MEAN},
        ],
    },
    "tiny_rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text * 60}}",
        "metric_list": [{"metric": name} for name in ("word_perplexity", "bits_per_byte")],
    },
    "tiny_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}],
    },
    "tiny_writing": {
        "output_type": "generate_until",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{next}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [
            {"metric": "exact_match", **MEAN},
            {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True},
        ],
    },
}
"""Name of a task -> how it differs from the others."""


def write_tasks(folder):
    """Write the tasks and their data, and return the folder. JSON is YAML, too."""
    data = folder / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    files = {"dataset_kwargs": {"data_files": {"test": str(data)}}}
    for name, kind in KINDS.items():
        task = {"task": name, **COMMON, **files, **kind}
        (folder / f"{name}.yaml").write_text(json.dumps(task), encoding="utf-8")
    return folder
