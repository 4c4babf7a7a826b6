"""CTranslate2 as ``gptj.bench.protocol.System``; it uses models, and trains none."""

import json
from pathlib import Path

import ctranslate2
import numpy as np

from gptj.bench.protocol import serve
from gptj.system.processor import cores


class CTranslate2:
    def load(self, model, dtype, train):
        if train:
            raise NotImplementedError("CTranslate2 trains no models")
        self.words = json.loads((Path(model) / "vocabulary.json").read_text(encoding="utf-8"))
        self.vocab_size = len(self.words)
        options = {"intra_threads": cores(), "inter_threads": 1}
        self.model = ctranslate2.Generator(model, compute_type=dtype, **options)

    def prefill(self, ids):
        logits = self.model.forward_batch(self._words(ids), return_log_probs=False)
        np.asarray(logits)

    def decode(self, ids, count):
        found = self.model.generate_batch(
            self._words(ids),
            max_length=count,
            min_length=count,
            beam_size=1,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return np.array([result.sequences_ids[0] for result in found])

    def _words(self, ids):
        return [[self.words[token] for token in row] for row in ids]


if __name__ == "__main__":
    serve(CTranslate2())
